"""Sentences and the labels they state: the cases of the labeler's tests."""

from evaluation.reading.labeler import label_report

SHORT = {
    "none": "No Finding",
    "ecm": "Enlarged Cardiomediastinum",
    "heart": "Cardiomegaly",
    "opacity": "Lung Opacity",
    "lesion": "Lung Lesion",
    "edema": "Edema",
    "cons": "Consolidation",
    "pna": "Pneumonia",
    "atel": "Atelectasis",
    "ptx": "Pneumothorax",
    "eff": "Pleural Effusion",
    "pleura": "Pleural Other",
    "fx": "Fracture",
    "dev": "Support Devices",
}


def said(text: str | None) -> dict[str, int]:
    """The labels that are not None."""
    return {name: value for name, value in label_report(text).items() if value is not None}


def expect(**labels: int) -> dict[str, int]:
    return {SHORT[short]: value for short, value in labels.items()}


NEGATION = [
    ("No effusion or pneumothorax.", expect(none=1, eff=0, ptx=0)),
    ("no pleural effusion or pneumothorax .", expect(none=1, eff=0, ptx=0)),
    ("No consolidation, effusion, edema, or pneumothorax.", expect(none=1, cons=0, eff=0, edema=0, ptx=0)),
    ("Lungs are clear of consolidation and free of edema.", expect(none=1, cons=0, edema=0)),
    ("Negative for pneumonia.", expect(none=1, pna=0)),
    ("Neither an effusion nor a pneumothorax is seen.", expect(none=1, eff=0, ptx=0)),
    ("There is not a pneumothorax.", expect(none=1, ptx=0)),
    ("Absence of effusion.", expect(none=1, eff=0)),
    ("The lungs do not demonstrate consolidation or nodules.", expect(none=1, cons=0, lesion=0)),
    ("Effusion is not seen and pneumothorax is absent.", expect(none=1, eff=0, ptx=0)),
    ("Absent lung markings at the left apex reflect a small pneumothorax.", expect(ptx=1)),
    ("Effusion or pneumothorax is not identified.", expect(none=1, eff=0, ptx=0)),
    ("Pneumothorax: none.", expect(none=1, ptx=0)),
    ("Effusion: No", expect(none=1, eff=0)),
    ("No new consolidation.", expect(none=1, cons=0)),
    ("No large effusion.", expect(none=1, eff=0)),
    ("No suspicious nodules or masses.", expect(none=1, lesion=0)),
    ("Without opacity to suggest pneumonia.", expect(none=1, opacity=0, pna=0)),
    ("Scarring rather than pneumonia.", expect(opacity=1, pna=0)),
    ("No acute or displaced rib fracture.", expect(none=1, fx=0)),
    ("No areas of consolidation are seen to suggest pneumonia.", expect(none=1, cons=0, pna=0)),
    ("Neither lung shows consolidation.", expect(none=1, cons=0)),
    ("No infiltrates, effusions or masses.", expect(none=1, opacity=0, eff=0, lesion=0)),
]

SCOPE_ENDS = [
    ("No effusion but mild edema.", expect(eff=0, edema=1)),
    ("No effusion, however there is a pneumothorax.", expect(eff=0, ptx=1)),
    ("No effusion although the heart is enlarged.", expect(eff=0, heart=1)),
    ("No effusion; heart is enlarged.", expect(eff=0, heart=1)),
    ("No pneumothorax, small left effusion.", expect(ptx=0, eff=1)),
    ("No pneumothorax and moderate cardiomegaly.", expect(ptx=0, heart=1)),
    ("No edema with stable effusion.", expect(edema=0, eff=1)),
    ("No pneumothorax is seen, bibasilar atelectasis.", expect(ptx=0, atel=1)),
    ("Cardiomegaly without edema.", expect(heart=1, edema=0)),
    ("No pneumothorax and the heart is enlarged.", expect(ptx=0, heart=1)),
    ("No effusion, possible pneumonia.", expect(eff=0, pna=-1)),
    ("Effusion is unchanged, pneumothorax is not seen.", expect(eff=1, ptx=0)),
    ("No pneumothorax after placement of a chest tube.", expect(none=1, ptx=0, dev=1)),
    ("A small effusion on the left and no effusion on the right.", expect(eff=1)),
    ("No pneumothorax.Small effusion.2.3 cm nodule.", expect(ptx=0, eff=1, lesion=1)),
]

HISTORY = [
    ("The left effusion has resolved.", expect(none=1, eff=0)),
    ("Interval resolution of the effusion.", expect(none=1, eff=0)),
    ("Resolved pneumothorax.", expect(none=1, ptx=0)),
    ("The previously seen nodule is not identified.", expect(none=1, lesion=0)),
    ("Right effusion is no longer present.", expect(none=1, eff=0)),
    ("No longer seen is the apical pneumothorax.", expect(none=1, ptx=0)),
    ("The pneumonia has cleared.", expect(none=1, pna=0)),
    ("Interval removal of the chest tube.", expect(none=1, dev=0)),
    ("The right picc line has been removed.", expect(none=1, dev=0)),
    ("No change in the effusion.", expect(eff=1)),
    ("No significant interval change in the moderate effusion.", expect(eff=1)),
    ("Small pneumothorax, not significantly changed.", expect(ptx=1)),
    ("The effusion has not resolved.", expect(eff=1)),
    ("Near complete resolution of the effusion.", expect(eff=1)),
    ("Effusion is no longer as large.", expect(eff=1)),
    ("The effusion has nearly completely resolved.", expect(eff=1)),
    ("Improved edema.", expect(edema=1)),
    ("Small effusion not seen on the lateral view.", expect(eff=1)),
    ("Nodule not seen previously.", expect(lesion=1)),
    ("History of pneumonia.", expect(none=1)),
    ("Follow-up film to exclude a mass.", expect(none=1)),
    ("If there is concern for pneumonia, a lateral film may help.", expect(none=1)),
    ("Old healed rib fractures.", expect(fx=1)),
]

DOUBT = [
    ("Pneumonia cannot be excluded.", expect(pna=-1)),
    ("Cannot exclude a small effusion.", expect(eff=-1)),
    ("Opacity may represent atelectasis or pneumonia.", expect(opacity=1, atel=-1, pna=-1)),
    ("Possible rib fracture.", expect(fx=-1)),
    ("Blunting suggests a small effusion.", expect(eff=-1)),
    ("Findings concerning for edema.", expect(edema=-1)),
    ("Small effusion is suspected.", expect(eff=-1)),
    ("Consider pneumonia.", expect(pna=-1)),
    ("Question of a nodule.", expect(lesion=-1)),
    ("?pneumonia at the left base", expect(pna=-1)),
    ("Atelectasis, less likely pneumonia.", expect(atel=1, pna=-1)),
    ("Likely atelectasis, although pneumonia is not excluded.", expect(atel=1, pna=-1)),
    ("Opacity consistent with pneumonia.", expect(opacity=1, pna=1)),
    ("Opacity most suggestive of pneumonia.", expect(opacity=1, pna=1)),
    ("Atelectasis or scarring at the base.", expect(atel=1, opacity=1)),
    ("Atelectasis versus pneumonia.", expect(atel=1, pna=-1)),
    ("Atelectasis vs. pneumonia.", expect(atel=1, pna=-1)),
    ("Effusion or pneumothorax.", expect(eff=-1, ptx=-1)),
    ("Effusion is small if present.", expect(eff=-1)),
    ("It is unlikely that this is pneumonia.", expect(pna=-1)),
    ("Atelectasis is favored over pneumonia.", expect(atel=1, pna=-1)),
    ("Pneumonia?", expect(pna=-1)),
    ("Can\u2019t exclude edema.", expect(edema=-1)),
]

DOUBLE_NEGATION = [
    ("It is not without effusion.", expect(eff=1)),
    ("The chest is not free of edema.", expect(edema=1)),
    ("No lack of opacity.", expect(opacity=1)),
    ("Pneumothorax is not excluded.", expect(ptx=-1)),
]

HEART = [
    ("Heart size is normal.", expect(none=1, heart=0)),
    ("Heart is not enlarged.", expect(none=1, heart=0)),
    ("Heart size normal and lungs clear", expect(none=1, heart=0)),
    ("Enlarged heart.", expect(heart=1)),
    ("Large heart.", expect(heart=1)),
    ("The heart is large.", expect(heart=1)),
    ("The cardiac silhouette is mildly enlarged.", expect(heart=1)),
    ("Mild enlargement of the cardiac silhouette.", expect(heart=1)),
    ("Enlargement of the heart, mediastinal contours are stable.", expect(heart=1)),
    ("Heart size is at the upper limits of normal.", expect(none=1, heart=0)),
    ("Borderline heart size.", expect(heart=1)),
    ("The heart may be enlarged.", expect(heart=-1)),
    ("The heart is normal and the aorta is enlarged.", expect(heart=0)),
    ("Normal heart size and mediastinal contours.", expect(none=1, heart=0, ecm=0)),
    ("The heart and mediastinum are unremarkable.", expect(none=1, heart=0, ecm=0)),
    ("Heart: enlarged. Mediastinum: normal.", expect(heart=1, ecm=0)),
    ("The mediastinum is widened.", expect(ecm=1)),
    ("Enlarged cardiomediastinal silhouette.", expect(ecm=1, heart=1)),
    ("The cardiac and mediastinal contours are normal.", expect(none=1, ecm=0)),
    ("The cardiomediastinal silhouette is stable.", expect(none=1)),
    ("No cardiac enlargement.", expect(none=1, heart=0)),
    ("No change of the heart, which is enlarged.", expect(heart=1)),
    ("Mediastinal lymph nodes are enlarged.", expect()),
]

PHRASES = [
    ("Left effusion", expect(eff=1)),  # no verb
    ("No pericardial effusion.", expect(none=1)),
    ("Mass effect on the trachea.", expect(none=1)),
    ("Massive effusion.", expect(eff=1)),
    ("Hydropneumothorax on the right.", expect(ptx=1, eff=1)),
    ("Left lower lobe collapse.", expect(atel=1)),
    ("Calcified nodule.", expect(lesion=1)),
    ("Calcified granuloma.", expect()),
    ("Biapical pleural-parenchymal scarring.", expect(pleura=1)),
    ("Endotracheal tube in good position.", expect(none=1, dev=1)),
    ("Emphysema without acute process.", expect()),
    ("There are no XXXX of an effusion.", expect(none=1, eff=0)),
    ("XXXX opacity, XXXX atelectasis.", expect(opacity=1, atel=1)),
    ("No ___ effusion.", expect(none=1, eff=0)),
]
