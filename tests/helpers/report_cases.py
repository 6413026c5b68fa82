# ruff: noqa: E501, E741
"""Invented reports of the shapes that hospitals write: (kind, report, the sections that it has).

F, I, N, T, C stand for findings, impression, indication, technique and comparison.
"""

F, I, N, T, C = "findings", "impression", "indication", "technique", "comparison"

CASES = [
    # a time is no heading, and a line that names the views says nothing
    ("title", " PORTABLE CHEST, 10:15 P.M., ___\n \n HISTORY: Line.\n \n IMPRESSION: Line in the SVC.",
     {N: "Line.", I: "Line in the SVC."}),
    ("title", "CHEST, PORTABLE AP: 0436 HOURS\nHISTORY: Sepsis.\nIMPRESSION: Edema.", {N: "Sepsis.", I: "Edema."}),
    ("title", "CHEST PA AND LATERAL 7:05: ___\nIMPRESSION: Normal.", {I: "Normal."}),
    ("title", "AP CHEST ___ AT 11:40 AM:\nIMPRESSION: AP chest compared to ___ at 2:15:\nLess edema.",
     {I: "AP chest compared to ___ at 2:15: Less edema."}),
    ("title", "X-RAY CHEST PA VIEW:\n- Lungs clear\n- Heart normal\nIMPRESSION: Normal.",
     {F: "- Lungs clear - Heart normal", I: "Normal."}),
    ("title", "HISTORY: Cough.\n\nCHEST, TWO VIEWS\n\nClear lungs.\n\nIMPRESSION: Normal.",
     {N: "Cough.", F: "Clear lungs.", I: "Normal."}),
    # the body of a report without a findings heading never stays in what a prompt quotes
    ("leak", "COMPARISON:  ___.\n \n Heart size is top normal. Bases are clear.\n \n IMPRESSION: No acute process.\n",
     {F: "Heart size is top normal. Bases are clear.", I: "No acute process."}),
    ("leak", "INDICATION: ___M with cough, assess for\n pneumonia.\n \n Two views of the chest provided. There is no focal\n"
     " consolidation. \n \n IMPRESSION: Clear.",
     {N: "___M with cough, assess for pneumonia.",
      F: "Two views of the chest provided. There is no focal consolidation.", I: "Clear."}),
    ("leak", "TECHNIQUE: Frontal and lateral radiographs.\n\nHeart normal.\n\nLungs clear.\n\nIMPRESSION: Normal.",
     {T: "Frontal and lateral radiographs.", F: "Heart normal. Lungs clear.", I: "Normal."}),
    ("leak", "REASON FOR EXAMINATION: Patient with heart failure.\n\nPortable AP film was reviewed beside ___.\n\nThe heart "
     "is large.\n", {N: "Patient with heart failure.", F: "Portable AP film was reviewed beside ___. The heart is large."}),
    ("leak", "EXAMINATION: CHEST (PA AND LAT)\n \n TECHNIQUE: PA and lateral\n \n COMPARISON: ___\n \n Low lung volumes."
     "\n \n IMPRESSION: \n \n Atelectasis.", {T: "PA and lateral", F: "Low lung volumes.", I: "Atelectasis."}),
    ("leak", "INDICATION: Fall.\r\n\r\nCOMPARISON: None.\r\n\r\nNo rib fracture.\r\n\r\nIMPRESSION: No fracture.",
     {N: "Fall.", C: "None.", F: "No rib fracture.", I: "No fracture."}),
    ("leak", "HISTORY: Fever.\n\nAs compared to the film of ___, the effusion persists.\n",
     {N: "Fever.", F: "As compared to the film of ___, the effusion persists."}),
    ("leak", "COMPARISON: ___.\nHeart size normal. No edema.\nCONCLUSION: Normal.",
     {F: "Heart size normal. No edema.", I: "Normal."}),
    ("leak", "COMPARISON: Radiograph of ___. Moderate left effusion has increased.\nIMPRESSION: Worse.",
     {C: "Radiograph of ___.", F: "Moderate left effusion has increased.", I: "Worse."}),
    ("leak", "COMPARISON: None. The lungs are clear. IMPRESSION: Normal.",
     {C: "None.", F: "The lungs are clear.", I: "Normal."}),
    ("leak", "TECHNIQUE: AP view was obtained.\nThe lungs are clear.\nIMPRESSION: Normal.",
     {T: "AP view was obtained.", F: "The lungs are clear.", I: "Normal."}),
    ("leak", "INDICATION: Dyspnea.\nThe lungs are clear. No effusion.\nIMPRESSION: Normal.",
     {N: "Dyspnea.", F: "The lungs are clear. No effusion.", I: "Normal."}),
    ("leak", "COMPARISON:\n\nPatchy airspace disease on both sides.\n\nIMPRESSION: ARDS.",
     {F: "Patchy airspace disease on both sides.", I: "ARDS."}),
    ("leak", "COMPARISON:\n\nNone.\n\nPatchy airspace disease.\n\nIMPRESSION: ARDS.",
     {C: "None.", F: "Patchy airspace disease.", I: "ARDS."}),
    ("leak", "INDICATION:\u2028cough\u2028\u2028The heart is large.\u2028\u2028IMPRESSION: Cardiomegaly.",
     {N: "cough", F: "The heart is large.", I: "Cardiomegaly."}),
    ("leak", "REFERENCE EXAM: ___\n\u00a0\nRight base opacity.\n\u00a0\nIMPRESSION: Opacity.",
     {F: "Right base opacity.", I: "Opacity."}),
    ("leak", "EXAM: CHEST\nThe lungs are clear.\nIMPRESSION: Normal.", {F: "The lungs are clear.", I: "Normal."}),
    # and what belongs to the prompt stays there
    ("prompt", "INDICATION: Known effusion, drained. Evaluate.\n\nCOMPARISON: CT of ___ with a right effusion.\n\n"
     "FINDINGS: Small effusion.", {N: "Known effusion, drained. Evaluate.", C: "CT of ___ with a right effusion.",
                                   F: "Small effusion."}),
    ("prompt", "INDICATION:\n\n___F with cough\n\nIMPRESSION: Normal.", {N: "___F with cough", I: "Normal."}),
    ("prompt", "INDICATION: Known heart failure. Edema?\n\nCOMPARISON: Prior film.\n\nIMPRESSION: Edema.",
     {N: "Known heart failure. Edema?", C: "Prior film.", I: "Edema."}),
    ("prompt", "INDICATION: Line placed.\n\nPlease evaluate for pneumothorax.\n\nIMPRESSION: None seen.",
     {N: "Line placed. Please evaluate for pneumothorax.", I: "None seen."}),
    ("prompt", "INDICATION: History: ___M with pain\n \n COMPARISON: ___ and ___ at 5:12.\n \n FINDINGS: \n \n Clear.",
     {N: "History: ___M with pain", C: "___ and ___ at 5:12.", F: "Clear."}),
    # white space, marks at the start of a file
    ("space", "\ufeffFINDINGS: Clear.\nIMPRESSION: Normal.", {F: "Clear.", I: "Normal."}),
    ("space", "Findings:\r\nClear.\r\nImpression:\r\nNormal.\r\n", {F: "Clear.", I: "Normal."}),
    ("space", "FINDINGS\u00a0:\u00a0Clear.\u0085IMPRESSION\u3000: Normal.", {F: "Clear.", I: "Normal."}),
    ("space", "FINDINGS\uff1aClear.\rIMPRESSION\uff1aNormal.", {F: "Clear.", I: "Normal."}),
    # words that open a line and no section
    ("wrapped", "FINDINGS: The opacity was not there on the earlier\nexamination: it is new. Nor does the\nhistory: cough, "
     "explain it.\nIMPRESSION: New.", {F: "The opacity was not there on the earlier examination: it is new. Nor does the "
                                      "history: cough, explain it.", I: "New."}),
    ("wrapped", "FINDINGS: Beside the prior\nchest: tube out. For this\nreason: no air leak. No other\nfindings: clear.",
     {F: "Beside the prior chest: tube out. For this reason: no air leak. No other findings: clear."}),
    ("wrapped", "FINDINGS: COMPARED WITH THE PRIOR\nSTUDY: NO CHANGE. ON BOTH\nVIEWS: CLEAR.\nIMPRESSION: SAME.",
     {F: "COMPARED WITH THE PRIOR STUDY: NO CHANGE. ON BOTH VIEWS: CLEAR.", I: "SAME."}),
    ("wrapped", "FINDINGS: No incidental findings: clear. Limited comparison: none at hand.",
     {F: "No incidental findings: clear. Limited comparison: none at hand."}),
    ("template", "FINDINGS: HEART: Normal.\nABDOMEN: Gas.\nCOMPRESSION: T8.\nEXTENSION: none\nIMPRESSION: T8 wedge.",
     {F: "HEART: Normal. ABDOMEN: Gas. COMPRESSION: T8. EXTENSION: none", I: "T8 wedge."}),
    # names of headings, also misspelt
    ("names", "CLINCAL HISTORY: cough\nTECHIQUE: PA\nCOMPARSION: none\nFINDNGS: Clear.\nIMPRESION: Normal.\n"
     "RECOMMEDATIONS: CT.", {N: "cough", T: "PA", C: "none", F: "Clear.", I: "Normal."}),
    ("names", "INDCATION: cough\nREFERENCE EXAMINATION: none\nFINIDNGS: Clear.\nCONLCUSION: Normal.\nNOTFICATION: x",
     {N: "cough", C: "none", F: "Clear.", I: "Normal."}),
    ("names", "REASON FOR THE STUDY: cough\nPRIOR EXAM: none\nFINDINGS AND IMPRESSION: Clear.",
     {N: "cough", C: "none", F: "Clear."}),
    ("names", "Clinical details: cough\nObservations: Clear.\nOpinion: Normal.", {N: "cough", F: "Clear.", I: "Normal."}),
    ("names", "**FINDINGS:** Clear.\n\n## Impression\n\nNormal.", {F: "Clear.", I: "Normal."}),
    ("flat", "Indication: cough Comparison: none. Findings: Clear. Impression: Normal.",
     {N: "cough", C: "none.", F: "Clear.", I: "Normal."}),
    ("flat", "INDICATION: COUGH.  TECHNIQUE: PA.  FINDINGS: CLEAR.  IMPRESSION: NORMAL.",
     {N: "COUGH.", T: "PA.", F: "CLEAR.", I: "NORMAL."}),
    # who signed is no part of a report
    ("signed", "Impression: Normal.\n\nReported by: Dr. Jane Roe, MBBS, MD\nDate: 3 May", {I: "Normal."}),
    ("signed", "IMPRESSION: Normal. Electronically signed by: J. Roe, MD at 5:00", {I: "Normal."}),
    ("signed", "IMPRESSION: Normal.\nJane Roe, M.D.\nStaff Radiologist", {I: "Normal."}),
    ("signed", "FINDINGS: Clear.\nDr. Jane Roe\nConsultant Radiologist", {F: "Clear."}),
    ("signed", "IMPRESSION: Normal. Dictated by: J. Roe. Transcribed by xx", {I: "Normal."}),
    ("signed", "IMPRESSION: Normal.\nI have personally reviewed the images and agree, J. Roe.", {I: "Normal."}),
    ("signed", "Clinical history: cough\nReferring physician: Dr. Roe\nFindings: Clear.", {N: "cough", F: "Clear."}),
    ("signed", "IMPRESSION: Stable.\n\nJane Roe\nRadiologist", {I: "Stable."}),
    ("signed", "IMPRESSION: Stable.\n--- Signed by Jane Roe ---", {I: "Stable."}),
    ("signed", "IMPRESSION: Stable. This report was electronically signed by Jane Roe", {I: "Stable."}),
    ("signed", "IMPRESSION: Stable.\nResident: Jane Roe. Attending: John Doe", {I: "Stable."}),
    ("signed", "FINDINGS: Clear.\nRadiologist: Dr. Jane Roe", {F: "Clear."}),
    ("added", "IMPRESSION: No effusion.\nADDENDUM\nThe clip is on the left.", {I: "No effusion."}),
    ("added", "IMPRESSION: No effusion.\n\n*** ADDENDUM ***\nThe clip is left.", {I: "No effusion."}),
    ("added", "ADDENDUM  Phoned at 5.\n FINAL REPORT\n INDICATION: line\n IMPRESSION: Fine.", {N: "line", I: "Fine."}),
    ("added", "WET READ VERSION #1 ___ 9:14 AM\n No PTX.\n FINAL REPORT\n CHEST\n \n FINDINGS: Clear.", {F: "Clear."}),
    ("pages", "FINDINGS: The base\n              (Over)\n\nDATE: ___ 9:30 AM\n CHEST  Clip # ___\n Reason: line\n ___________"
     "___________\n FINAL REPORT\n (Cont)\n is clear.\nIMPRESSION: Clear.", {F: "The base is clear.", I: "Clear."}),
    ("pages", "IMPRESSION: Clear.\n(Over)\n(Cont)\nHeart normal.", {I: "Clear. Heart normal."}),
    # headings without a colon
    ("alone", "CLINICAL HISTORY\nFever.\n\nFINDINGS\nLungs clear.\n\nIMPRESSION\n1. Normal.",
     {N: "Fever.", F: "Lungs clear.", I: "1. Normal."}),
    ("alone", "Technique\nPA view\nFindings\nlungs clear\nImpression\nnormal", {T: "PA view", F: "lungs clear", I: "normal"}),
    ("alone", "HISTORY\nCough\nCOMPARISON\nNone\n\nLungs are clear\n\nCONCLUSION\nNormal",
     {N: "Cough", C: "None", F: "Lungs are clear", I: "Normal"}),
    ("dash", "FINDINGS - Lungs clear.\nImpression \u2013 Normal.", {F: "Lungs clear.", I: "Normal."}),
    ("dash", "FINDINGS  Lungs clear.\nIMPRESSION Normal chest.", {F: "Lungs clear.", I: "Normal chest."}),
    # CheXpert Plus
    ("chexpert", "NARRATIVE:\nRADIOGRAPHIC EXAMINATION OF THE CHEST: 1/2/2001\nCLINICAL HISTORY: 60 years old.\nPROCEDURE "
     "COMMENTS: One view.\nFINDINGS: Tube in place.\nIMPRESSION:\n1. TUBE IN PLACE.\nEND OF IMPRESSION\nSUMMARY: "
     "2-ABNORMAL", {N: "60 years old.", T: "One view.", F: "Tube in place.", I: "1. TUBE IN PLACE."}),
    # plain texts have no section
    ("plain", "Clear lungs. Normal heart.", {}),
    ("plain", " \n\t", {}),
    # abbreviated headings, and headings inside a line
    ("hx", "Hx: wheeze and fever\n\nThe lungs are clear.\n\nIMPRESSION: Normal.",
     {N: "wheeze and fever", F: "The lungs are clear.", I: "Normal."}),
    ("hx", "PMHx: asthma\nFINDINGS: Clear.", {N: "asthma", F: "Clear."}),
    ("hx", "CLINICAL HX: FALL. FINDINGS: NO FRACTURE.", {N: "FALL.", F: "NO FRACTURE."}),
    ("inside", "Indication: wheeze. Chest X-ray: The lungs are hazy. No effusion.",
     {N: "wheeze.", F: "The lungs are hazy. No effusion."}),
    ("inside", "Comparison: Chest X-ray: January 2031.\nFindings: Clear.",
     {C: "Chest X-ray: January 2031.", F: "Clear."}),
    ("inside", "Findings: heart is large Impression: heart failure", {F: "heart is large", I: "heart failure"}),
    ("inside", "Findings: Hazy bases, see Impression: below.", {F: "Hazy bases, see Impression: below."}),
    # the first sentence of the body, where it tells what was done
    ("drain", "INDICATION: Empyema.\nRight chest drain withdrawn.\nNo pneumothorax.\nIMPRESSION: Better.",
     {N: "Empyema.", F: "Right chest drain withdrawn. No pneumothorax.", I: "Better."}),
    ("drain", "INDICATION: Empyema. Right chest drain withdrawn.\nFINDINGS: Clear.",
     {N: "Empyema. Right chest drain withdrawn.", F: "Clear."}),
    ("leak", "INDICATION: Line.\nLeft IJ line with its tip in the SVC. No pneumothorax.\nIMPRESSION: Fine.",
     {N: "Line.", F: "Left IJ line with its tip in the SVC. No pneumothorax.", I: "Fine."}),
    # what is asked, or never was, is none of the report
    ("asked", "INDICATION: No effusion after drainage?\nIMPRESSION: Clear.",
     {N: "No effusion after drainage?", I: "Clear."}),
    ("asked", "HISTORY: Wheeze. No known history of pneumonia.\nIMPRESSION: Clear.",
     {N: "Wheeze. No known history of pneumonia.", I: "Clear."}),
    ("message", "IMPRESSION: Pneumothorax. Ms. Doe (RN) acknowledged the result.", {I: "Pneumothorax."}),
    ("message", "IMPRESSION: Tube too deep. Mr. Doe (PA) was informed.", {I: "Tube too deep."}),
    ("message", "IMPRESSION: Tube too deep. Miss Doe, RN acknowledged.", {I: "Tube too deep."}),
]  # fmt: skip
