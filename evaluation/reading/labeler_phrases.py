"""What the labeler looks for: phrases of the CheXpert-14 observations, of other abnormalities and of anatomy.

Every phrase is a regular expression over a sentence in the spelling of `labeler_words`, without capturing groups. It
starts with a letter, or with alternatives that do, since the scanner sorts phrases by their first letter, and it ends
at a word boundary. Where two phrases fit at the same place, the one written first wins.
The observations are those of `observations.py`; the phrases are our own.
"""

OTHER = "Other Abnormality"
"""Not one of the fourteen: an abnormality that only decides whether "No Finding" holds."""

PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    # Found and thrown away: they contain a phrase above and mean something else.
    (): (
        r"(?:old|prior|previous|remote|recent|past|healed) (?:\w+ ){0,3}(?:pneumonias?|empyema|infections?)",
        r"soft tissue (?:swelling|edema|density|densities)",
        r"subcutaneous edema",
        r"(?:air|gas|stool|blood) collections?",
        r"body mass",
        r"bone (?:mineral )?density",
        r"bony? densit\w+",
        r"muscle mass",
        r"mass effect",
        r"(?:hilar|breast|vascular|bronchovascular|vessel|acoustic|rib) shadows?",
        r"fibrosis (?:screen|clinic)",
        r"air-fluid",
        r"line of sight",
        r"pseudo-?(?:nodules?|mass|tumors?|lesions?|pneumothorax)",
    ),
    ("Cardiomegaly",): (
        r"cardiomeg\w*",
        r"megalocardia",
        r"large heart",
        r"heart enlargement",
        r"cardiac enlargement",
        r"cardiac chamber enlargement",
    ),
    ("Enlarged Cardiomediastinum",): (
        r"mediastinal (?:widening|enlargement)",
        r"mediastinum is wide",
        r"wide mediastinum",
    ),
    ("Lung Opacity",): (
        r"opaci\w*",
        r"opaque",
        r"shadow(?:s|ing)?",
        r"(?:increased|abnormal) (?:densit(?:y|ies)|attenuation)",
        r"decreased (?:translucency|transradiancy|lucency)",
        r"(?:peri-?bronchial|bronchial wall|interstitial|septal) thickening",
        r"infiltrat\w*",
        r"air ?-?space (?:disease|process|filling|abnormality|abnormalities)",
        r"parenchymal (?:disease|process|density|densities|scar\w*)",
        r"interstitial (?:lung )?(?:markings?|patterns?|disease|changes?|prominence|thickening|accentuation)",
        r"reticul(?:ar|ation|ations|onodular) ?(?:markings?|patterns?|changes?)?",
        r"density",
        r"densities",
        r"haz(?:e|y|iness)",
        r"ground[ -]?glass",
        r"scar(?:s|ring|rings)?",
    ),
    ("Lung Lesion",): (
        r"calcified (?:\w+ ){0,2}nodul(?:es?|arity)",
        r"mass(?:es)?",
        r"mass-?like",
        r"nodular (?:densit(?:y|ies)|foc(?:us|i)|areas?|structures?|lesions?|abnormalit\w+)",
        r"lumps?",
        r"nodul(?:es?|arity)",
        r"micro-?nodules?",
        r"tumou?rs?",
        r"neoplas\w+",
        r"malignan\w+",
        r"carcinoma\w*",
        r"metasta\w+",
        r"cavit\w+ (?:lung )?lesions?",
        r"(?:(?:focal|rounded|suspicious|solitary|coin|space-occupying) )?(?:lung|pulmonary|parenchymal"
        r"|intrapulmonary) (?:lesions?|cancer)",
        r"(?:rounded|coin|space-occupying) lesions?",
    ),
    ("Lung Lesion", "Lung Opacity"): (r"nodular opaci\w+", r"nodular (?:shadow\w*|infiltrates?)"),
    ("Edema",): (r"edema\w*", r"odema", r"kerley(?: [abc])?(?: lines?)?"),
    ("Consolidation",): (r"consolidat\w*",),
    ("Pneumonia",): (
        r"pneumonias?",
        r"bronchopneumonias?",
        r"pneumonitis",
        r"pneumonic",
        r"infect(?:ion|ions|ious|ive)",
    ),
    ("Atelectasis",): (
        r"atelecta\w*",
        r"collapsed?",
        r"airless\w*",
    ),
    ("Pneumothorax",): (
        r"pneumothora\w*",
        r"ptx",
        r"pneumothorac\w+",
        r"pleural air(?: collections?)?",
        r"air in the pleural (?:space|cavity)",
    ),
    ("Pneumothorax", "Pleural Effusion"): (r"(?:hydro|hemo|pyo)-?pneumothora\w*",),
    ("Pleural Effusion",): (
        r"(?:pleural )?effusions?",
        r"pleural (?:\w+ )?(?:fluid|collections?)",
        r"fluid (?:collections? )?(?:in|within|at|along|layering in) (?:the )?(?:\w+ ){0,2}(?:costophrenic|pleura"
        r"|hemithorax|bases?)",
        r"(?:free )?fluid(?= ?(?:$|[,;]|or\b|is\b|blunting))",
        r"(?:loculated|layering|subpulmonic|tracking) (?:\w+ )?(?:fluid|collections?)",
        r"fluid(?= (?:tracks?|tracking|layers|layering|collects|(?:re)?-?accumulat\w+|bilaterally"
        r"|on (?:the )?(?:left|right)))",
        r"collections?(?= ?(?:$|[.,;]|on\b|at\b|in the (?:left|right)))",
        r"fluid in the (?:\w+ ){0,2}(?:pleural space|fissures?)",
        r"hemothora\w*",
        r"hydrothora\w*",
        r"(?:empyema|pyothorax|chylothorax)",
    ),
    ("Pleural Other",): (
        r"pleural (?:\w+ )?(?:thickening|plaques?|scar\w*|calcifications?|disease|abnormalit\w+|reaction|tags?)",
        r"pleur(?:o|al)[ -]?parenchymal (?:\w+ )?(?:thickening|scar\w*|changes?|disease)",
        r"(?:apical|biapical|fissural) (?:\w+ )?(?:thickening|caps?)",
        r"thicken(?:ed|ing of(?: the)?) (?:\w+ )?pleura\w*",
        r"pleura\w* (?:surfaces? )?(?:is |are |appears? |looks? )?(?:\w+ly )?thick(?:ened)?",
        r"fibrothorax",
        r"fibro(?:sis|tic)",
    ),
    ("Fracture",): (
        r"fractur\w*",
        r"flail (?:chest|segment)",
        r"(?:compression|wedg(?:e|ing)|burst|biconcave) deformit\w+",
    ),
    ("Support Devices",): (
        r"pace-?makers?",
        r"(?:pacer|ppm)",
        r"(?:pacing|defibrillator|external) (?:leads?|wires?|device|pads?)",
        r"(?:icds?|aicd|crt-?[dp]|defibrillators?|lvad|rvad|impella|iabp|balloon pump|ecmo|loop recorder|watchman"
        r"|tavr|tavi)",
        r"(?:picc|port-?a-?cath|mediport|port|vas-?cath|perma?-?cath|cvcs?|cvp line|cvl|uvc|uac|swan(?:-| )?ganz"
        r"|swan|tlc)",
        r"(?:triple|double|dual|quad)[ -]lumen",
        r"(?:catheters?|hickman|broviac|groshong|quinton|pig-?tail)",
        r"(?:ngt|ogt|ett|etts|trach|ng tube|dob+-?hof+|icc|gastrostomy)",
        r"(?:tube|tubes|tubing|tracheostomy|cannulas?|cannulae|drains?)",
        r"(?:central|subclavian|jugular|venous|picc|hickman|arterial|ij|scv|cvp|dialysis|infusion|access|midline|iv"
        r"|umbilical"
        r"|pa|support|svc) lines?",
        r"(?:lines? (?:and|or|,) (?:\w+ )?(?:tubes?|drains?))",
        r"lines?(?= (?:tip|terminat|end|in place|in stable|in situ|in good|in satisfactory|position|remains?"
        r"|unchanged|removed))",
        r"(?:leads|electrodes?|generator|stimulator|apparatus|pumps?|infusaport)",
        r"(?:hardware|prosthe\w+|arthroplasty|implants?|implanted|stents?|device|devices|filter|shunt)",
        r"(?:(?:sternal|sternotomy|cerclage) wires?|clips?|sutures?|coils?|screws?|rods?|plates?(?![- ]?like"
        r"| atelect))",
        r"(?:valve (?:replacement|repair|prosthe\w+)|(?:artificial|mechanical|prosthetic"
        r"|bioprosthetic) (?:\w+ )?valves?)",
    ),
    (OTHER,): (
        r"emphysema\w*",
        r"copd",
        r"obstructive (?:pulmonary|lung|airways?) disease",
        r"(?:hyper-?inflat\w*|hyper-?expan\w*|hyper-?aerat\w*|hyper-?lucen\w*|overinflat\w*|air trapping)",
        r"(?:hypo-?inflat\w*|hypo-?aerat\w*|hypoventilat\w*|low lung volumes?|volume loss)",
        r"granuloma\w*(?: (?:infections?|disease|process))?",
        r"calcif\w*",
        r"(?:scoliosis|dextroscoliosis|levoscoliosis|kyphosis|kyphoscoliosis|dextrocurvature|levocurvature)",
        r"(?:degenerat\w*|osteophyt\w*|spondylosis|spurring|arthritis|arthrosis|osteoarthritis|arthropathy)",
        r"hernia\w*",
        r"(?:tortuo\w*|ectasia|ectatic|aneurysm\w*|unfold\w*|uncoiled)",
        r"(?:athero\w*|arterioscler\w*)",
        r"(?:congest\w*|engorge\w*|vascular prominence|vascular redistribution|cephalization)",
        r"(?:heart failure|chf|fluid overload|volume overload)",
        r"(?:bronchiectasis|bronchiti[sc]|bronchial (?:wall )?thickening|peribronchial (?:cuffing|thickening)|cuffing)",
        r"(?:adenopathy|lymphadenopathy|enlarged lymph nodes?)",
        r"(?:osteopeni\w*|osteoporo\w*|demineraliz\w*)",
        r"(?:deformit\w*|compression|wedging|wedged)",
        r"(?:elevated|elevation of)",
        r"(?:eventration|blunt\w*|flatten\w*|crowding)",
        r"(?:cysts?|bullae?|bullous|blebs?|cavit(?:y|ies|ation)|pneumatoceles?|lucenc(?:y|ies))",
        r"(?:pneumoperitoneum|free air|pneumomediastinum|subcutaneous air)",
        r"(?:thickening|thickened|dilat\w*|dilation)",
        r"(?:sarcoid\w*|tuberculosis|histoplasm\w*|cystic fibrosis|pneumoconiosis|silicosis)",
        r"(?:cabg|sternotomy|cholecystectomy|mastectomy|lobectomy|thoracotomy|pneumonectomy|post-?surgical"
        r"|post-?operative)",
        r"(?:lesions?|aspiration|contusion|hemorrhage|lymphoma|cancer|hematoma|infarct\w*|inflammat\w+)",
        r"(?:dextrocardia|situs inversus|white-?out|pneumopericardium|pericardial (?:effusions?|fluid)|bulk(?:y|ier)"
        r"|bullets?)",
        r"upper lobe (?:blood )?diversion",
        r"(?:lung|pulmonary|cardiac|heart|airways?) (?:disease|abnormalit\w+)",
        r"(?:bony|osseous|skeletal|senescent|arthritic|post-?traumatic) changes",
    ),
}

ORGANS: dict[tuple[str, ...], tuple[str, ...]] = {
    (OTHER,): (
        r"(?:renal|kidneys?|hepatic|liver|splenic|spleen|adrenal|pancrea\w*|gastric|stomach|bowel|colon\w*"
        r"|gall-?bladder)",
        r"(?:thyroid|breasts?|prostat\w*|uter\w+|ovar\w+|esophag\w+|duoden\w+)",
    ),
    (): (
        r"(?:brain|cerebral|intracranial|scalp|skin|cutaneous|subcutaneous|soft[- ]tissues?|orbit\w*|parotid|rectal)",
        r"(?:abdom\w+|pelvi[cs]|bladder|urinary|testic\w+|wound|dental|peritone\w+|laryn\w+|epiglott\w+|pharyn\w+)",
        r"(?:joints?|elbows?|wrists?|hands?|foot|toes?|fingers?|groin|thighs?|neck|mandib\w+|skull|knees?|ankles?"
        r"|pedal|legs?|limbs?|feet|arms?|shoulders?|hips?|chest wall)",
        r"(?:vertebra\w*|spinal|spine|end-?plates?|bony|bones?|osseous|skeletal|humer\w+|femor\w+)",
    ),
}
"""Other organs and places: a lesion, an edema, an effusion or a collapse of theirs is not of the chest."""

ARTEFACTS = (
    r"(?:projectional|positional|spurious|illus(?:ion|ory)|(?:ap )?projection|magnification|rotation|poor inspiration)",
    r"(?:technical factors?|nipple shadows?)",
    r"(?:left |right )?nipples?",
    r"(?:arte|arti)fact\w*(?: shadow\w*)?",
    r"(?:skin[- ]?folds?|folds? of (?:the )?skin|skin creases?|aortic (?:knuckle|knob)|vascular grooves?"
    r"|azygos (?:vein|arch)|(?:ecg|ekg) (?:dots?|stickers?|electrodes?|buttons?)|(?:epicardial "
    r"|pericardial )?fat pads?|epicardial fat|breast tissue)",
    r"(?:summation(?: (?:shadow\w*|arti?e?fact\w*))?|soft tissue (?:overlay|shadows?|attenuation)|telemetry"
    r"|overlay artifact)",
    r"(?:superimpos\w+|super-?position|overlap\w*|overl(?:ying|apping)) (?:of )?(?:\w+ ){0,2}(?:ribs?|vessels?"
    r"|costal cartilages?|soft tissues?|structures|shadows?|tissues?|clothing"
    r"|hair|scapula|bones?|markings)",
    r"(?:external|outside) (?:to|of)? ?(?:the )?(?:patient|body)",
    r"(?:hair braids?|clothing|shirt buttons?|buttons?|jewell?ery|blankets?|oxygen mask)",
    r"(?:costo-?chondral (?:junction|calcification|cartilage)|rib ends?|end of (?:a|the) (?:rib|vessel)"
    r"|vessels? (?:end|seen end)[- ]on"
    r"|scapular? (?:edge|border|tip|spine)|edge of the scapula|bone islands?|companion shadows?|prominent vessels?"
    r"|confluence of vessels)",
)
"""What explains a shadow away: a nodule that is a nipple is no nodule."""

ANATOMY: dict[tuple[str, ...], tuple[str, ...]] = {
    ("Enlarged Cardiomediastinum", "Cardiomegaly"): (
        r"cardio-?mediastinal (?:silhouettes?|size|shadow)",
        r"cardio-?pericardial silhouette",
    ),
    ("Enlarged Cardiomediastinum",): (
        r"mediastin(?:um|al)(?: (?:contours?|silhouettes?|size|shadow|structures|configuration|borders?))?"
        r"(?! (?:lymph|nod|aden|shift|mass|fat|lipo|drain|clip|calc))",
        r"cardio-?mediastin(?:um|al)(?: (?:contours?|structures|configuration|borders?))?",
        r"cardiac (?:and|&|/) ?mediastinal (?:contours?|silhouettes?|structures|borders?)",
        r"cardiac/mediastinal (?:contours?|silhouettes?)",
    ),
    ("Cardiomegaly",): (
        r"heart(?: size)?",
        r"cardiac (?:silhouettes?|size|shadow|contours?|outline)",
        r"cardiac(?! apex)",
        r"(?:cardiothoracic|cardio-thoracic) (?:ratio|index)",
    ),
    (OTHER,): (
        r"aort(?:a|ic)",
        r"(?:pulmonary )?(?:vasculature|vascularity|vessels?|vascular (?:markings?|structures))",
        r"pulmonary (?:arter(?:y|ies)|veins?|trunk)",
        r"hil(?:a|um|ar)",
        r"cardiac apex",
        r"(?:atrium|atria|atrial|ventricle|ventricular)",
        r"lymph nodes?",
        r"(?:interstitium|azygos|tracheal?)",
    ),
    # Named so that a text that only speaks of normal anatomy is known to be a chest report.
    (): (
        r"lungs?",
        r"chest",
        r"thora\w+",
        r"pleura(?:l)?",
        r"(?:cardiopulmonary|pulmonary)",
        r"(?:diaphragms?|hemidiaphragms?|costophrenic|cp angles?|hemithora\w+)",
        r"(?:ribs?|clavicles?|sulc(?:us|i)|recess(?:es)?|sternum|scapulae?|skeleton|carina|bronch(?:us|i)|airways?)",
    ),
}
