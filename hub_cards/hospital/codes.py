"""Every code of the documents, in one table with its source. What has no code here is written as text.

Sources: the presence of a finding and its values, the procedure and "no finding" by SNOMED CT and LOINC as IHE's draft
Imaging Diagnostic Report uses them; findings by the Open Imaging Data Model (MIT); changes and values by RadLex: of
these two the source gives the identifier alone, so the meaning is in our own words. The
names of DICOM's own templates (TID 1500, 1501, 1410) come from pydicom's and highdicom's tables, not from here, but for
one that these lack.
"""

from typing import NamedTuple


class Code(NamedTuple):
    """A value, the scheme that it belongs to and its meaning in words."""

    value: str
    scheme: str
    meaning: str


SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "RADLEX": "http://radlex.org",
    "99OIDM": "https://openimagingdata.org",  # the model's site: no address of the codes is registered
}
"""DICOM's name of each scheme -> its address in FHIR."""

PRESENCE = Code("705057003", "SCT", "Presence")
ANSWERS = {
    "present": (Code("52101004", "SCT", "Present"), Code("RID28472", "RADLEX", "present")),
    "absent": (Code("272519000", "SCT", "Absent"), Code("RID28473", "RADLEX", "absent")),
    "indeterminate": (Code("82334004", "SCT", "Indeterminate"), Code("RID39110", "RADLEX", "indeterminate")),
}
CHANGES = {
    "new": Code("RID5720", "RADLEX", "new"),
    "grown": Code("RID36043", "RADLEX", "increased"),
    "unchanged": Code("RID39268", "RADLEX", "unchanged"),
    "smaller": Code("RID36044", "RADLEX", "decreased"),
}
"""By the words of `evaluation.reading.changes`; "resolved" has no code."""
CHEST_ONE_VIEW = Code("36554-4", "LN", "XR Chest Single view")
EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""Of TID 1500, row 12."""
FINDINGS = {
    "Pleural Effusion": Code("OIFM_CDE_000254", "99OIDM", "Pleural effusion"),
    "Pneumonia": Code("OIFM_CDE_000076", "99OIDM", "Pneumonia"),
    "Lung Lesion": Code("OIFM_CDE_000195", "99OIDM", "Pulmonary nodule"),  # nearest: a mass has one of its own
    "Lung Opacity": Code("OIFM_CDE_000225", "99OIDM", "Lung opacity"),
    "Pneumothorax": Code("OIFM_GMTS_023339", "99OIDM", "Pneumothorax"),
    "Cardiomegaly": Code("OIFM_GMTS_022537", "99OIDM", "Cardiomegaly"),
    "Edema": Code("OIFM_GMTS_014286", "99OIDM", "Edema"),
    "Atelectasis": Code("OIFM_OIDM_041735", "99OIDM", "Atelectasis"),
    "Consolidation": Code("OIFM_OIDM_628702", "99OIDM", "Consolidation"),
    "Enlarged Cardiomediastinum": Code("OIFM_GMTS_015685", "99OIDM", "Wide mediastinum"),  # nearest
    "Pleural Other": Code("OIFM_GMTS_015999", "99OIDM", "Pleural thickening"),  # nearest
    "Fracture": Code("OIFM_OIDM_739317", "99OIDM", "Fracture"),
    "Support Devices": Code("OIFM_OIDM_709264", "99OIDM", "Support devices"),
    "No Finding": Code("276800000", "SCT", "No finding"),
}
