"""The words that decide what a sentence says about a finding: negation, doubt, scope and states of anatomy.

Same pattern language as `labeler_phrases`. The kinds and what they do are explained in `labeler_scope`.
"""

# Adverbs between a verb and what it negates: "is not clearly seen".
_ADVERB = r"(?:(?:clearly|definitely|definitively|currently|actually|otherwise|longer|now|grossly|convincingly) )?"
_SEEN = (
    r"(?:seen|identified|visuali[sz]ed|visible|appreciated|noted|present|evident|apparent|demonstrated|detected"
    r"|observed"
    r"|found|suspected|indicated|recogni[sz]ed|shown)"
)
# "not seen on the lateral view" and "not present previously" say nothing about today's finding.
_ELSEWHERE = (
    r"(?! (?:is|are)\b| (?:previously|before|earlier)\b| (?:\w+ ){0,2}(?:on|in|at) (?:\w+ ){0,2}"
    r"(?:lateral|frontal|pa|ap|prior|previous|earlier|older?|comparison)\b)"
)
# What a negation may skip and still negate: "no new", "no large". Kept inside the cue so that the reason shows it.
_QUALIFIER = (
    r"(?: (?:new|newly|large|larger|gross|sizable|sizeable|significant|substantial|definite|definitive|obvious|overt"
    r"|frank|convincing|typical|focal|acute|active|evident|visible|appreciable|measurable|discrete|suspicious"
    r"|other|additional|further|residual|recurrent|displaced|xxxx))*"
)
_EVIDENCE = (
    r"(?: (?:radiographic|radiologic|plain film|convincing|definite|clear|specific|gross|direct|secondary|strong))*"
    r"(?: (?:evidence|signs?|findings?|suggestion|indication|features?|appearance|manifestations?|stigmata|xxxx)"
    r"(?: (?:of|for|to suggest|suggesting|suggestive of|to indicate|indicating|that|suspicious for|concerning for"
    r"|consistent with|compatible with))?)?"
)

# What a sentence may close with to doubt what stands before it.
_DOUBTED = (
    r"(?:possible|possibility|possibilities|consideration|differential(?: diagnosis)?|concern|questioned|considered"
    r"|suspected|query"
    r"|uncertain|questionable|equivocal|conceivable|unlikely|less likely|less probable|doubtful|unclear"
    r"|indeterminate"
    r"|alternative(?: (?:cause|diagnosis|explanation|reading|possibility|consideration))?)"
    r"(?= ?(?:$|[.,;(]|(?:but|in|at|and|or|given|on|as|by|clinically|here|however|than|though|although)\b))"
)

CUES: dict[str, tuple[str, ...]] = {
    # Negates the findings after it.
    "negation": (
        r"(?:no longer|not) (?:seen|identified|present|visuali[sz]ed) (?:is|are)",
        r"no(?: longer)?" + _EVIDENCE + _QUALIFIER,
        r"without" + _EVIDENCE + _QUALIFIER,
        r"(?:is |are |was |were )?negative (?:(?:chest )?(?:study|exam\w*|film|radiograph|x-ray|ct) )?(?:for|of)"
        + _EVIDENCE
        + _QUALIFIER,
        r"never(?: any)?" + _EVIDENCE + _QUALIFIER,
        r"(?:nor|neither)" + _QUALIFIER,
        r"(?:free|clear|devoid|cleared) (?:of|from)" + _EVIDENCE + _QUALIFIER,
        r"(?:simulat(?:es|ed|ing)|mimics?|mimicked|mimicking|masquerading as)",
        r"(?:absence|lack) of" + _EVIDENCE + _QUALIFIER,
        r"(?:absent(?! (?:lung|vascular|pulmonary|bronchovascular) markings)|resolved|cleared)",
        r"(?:resolution|clearing|clearance|disappearance|removal|absence|exclusion) of",
        r"(?:has|have|had) been removed",
        r"denies",
        r"excludes?",
        r"(?:ruled|rules) out",
        r"(?:rather than|xxxx than|as opposed to|instead of)",
        r"(?:do|does|did) not (?:demonstrate|show|reveal|have|contain|represent|see|identify|indicate)"
        + _EVIDENCE
        + _QUALIFIER,
        r"(?:aren't|isn't|doesn't|don't)(?: any)?" + _EVIDENCE + _QUALIFIER,
        r"(?:(?:fail(?:s|ed)?|unable|not able) to|cannot|can't|could not|couldn't|didn't|hasn't|haven't)"
        r" (?:show|shown|demonstrate|reveal|see|find|identify|detect)" + _EVIDENCE + _QUALIFIER,
        r"(?:lacks?|lacking|none of|hardly any|nothing)(?: any)?" + _EVIDENCE + _QUALIFIER,
        r"(?:nothing|no(?:thing)? (?:reason|feature|features|abnormality|change|changes)) to (?:suggest|indicate"
        r"|suspect)",
    ),
    # As a negation, but only of what stands right after it: it may belong to another word ("not larger, may be edema").
    "near_negation": (r"not" + _EVIDENCE + _QUALIFIER,),
    # Negates the findings before it.
    "post_negation": (
        r"(?:(?:is|are|was|were|has been|have been) )?(?:no longer|not) " + _ADVERB + _SEEN + _ELSEWHERE,
        r"(?:(?:is|are|was|were) )?(?:not|no longer) (?:any|a|an)? ?(?:\w+ )?(?:identifiable|detectable|discernible)",
        r"(?:isn't|aren't|wasn't|weren't) " + _ADVERB + _SEEN + _ELSEWHERE,
        r"cannot be (?:seen|identified|appreciated)" + _ELSEWHERE,
        r"(?:has|have|had|is|are|was|were)"
        r"(?! (?:\w+ )?(?:nearly|partially|partly|mostly|largely|almost|incompletely)) (?:since |now |been |\w+ly )*"
        r"(?:resolved|cleared|disappeared|removed|excluded|ruled out|absent|gone)(?! (?:an?|any|the|all)\b)",
        r"(?:(?:is|are|was|were|now|fully|completely) )*(?:resolved|absent|disappeared|cleared|excluded|gone|removed"
        r"|re-?expanded"
        r"|none(?: (?:seen|identified|evident|detected|present|visible|demonstrated|noted|found|now|remain\w*))*"
        r"|ruled out)(?= ?(?:$|[.,;]|(?:now|since|bilaterally|on|at|today|by|from)\b))",
        r"(?:is|are|was|were) not (?:an? )?(?:feature|features|problem|issue|finding)",
        r"(?:(?:is|are|was|were) )?not (?:\w+ly )?(?:confirmed|corroborated|substantiated|reproduced"
        r"|borne out)(?= ?(?:$|[.,;]|on\b|by\b|today\b))",
        r"(?:has|have) (?:\w+ly )?(?:re-?expanded|been (?:\w+ly )?(?:taken out|pulled(?! (?:back|up|by|slightly|to))"
        r"|explanted|discontinued|withdrawn(?! (?:by"
        r"|and|into|back|slightly|to|\d))|removed|excluded"
        r"|ruled out))",
        r"(?:is|are|was|were) (?:\w+ly )?(?:excluded|ruled out)",
        r"(?:is|are|was|were) (?:\w+ )?(?:lacking|missing|wanting|out of the question|nowhere to be seen"
        r"|not in evidence)",
        r"(?:can|may) (?:\w+ly )?be (?:\w+ly )?(?:excluded|ruled out|discounted|dismissed)",
        r"(?:has|have|had|did) not (?:\w+ly )?(?:developed?|appeared|recurred?|occurred|reaccumulated)",
        r"(?:is|are) (?:negative|absent)(?! (?:for|of)\b)",
        r"negative(?= ?(?:$|[.,;]))",
        r"not (?:seen|present|identified|demonstrated|visuali[sz]ed|detected|evident|found)(?= ?(?:$|[.,;]))",
        r"no(?= ?(?:$|[.,;]))",
        r"nil(?=\))",
    ),
    # Doubts the findings after it.
    "uncertainty": (
        r"(?:possible|possibly|possibility of|low (?:suspicion|likelihood|probability) (?:of|for))",
        r"(?:could|can|may|might|would) (?:also |well )?"
        r"(?:be (?:seen|due|related|secondary|explained|caused|attributed|compatible|consistent|a component"
        r"|in keeping))"
        r"(?: (?:with|in|to|by|for|of))?",
        r"(?:may|might|could)(?: (?:also|well|potentially|in part|partially))?"
        r"(?: (?:be|represent|reflect|indicate|relate|suggest|have|contain|include|still))?",
        r"(?:question|questionable|questionably|query|equivocal|indeterminate)(?: (?:of|for))?",
        r"(?:concern|concerns|concerning|worrisome|suspicious|suspicion|suspected|suspect|suspects|suspecting)"
        r" ?(?:for|of|about|regarding|that)?",
        r"(?:hard|difficult|impossible|unable|too early) to (?:\w+ly )?(?:say|know|tell|determine|be (?:sure"
        r"|certain)|decide|state|establish)"
        r"(?: (?:whether|if))?",
        r"(?:unclear|uncertain|unsure|unknown|not (?:\w+ly )?(?:clear|sure|certain|convinced|confident)"
        r"|cannot (?:say|tell|be (?:sure|certain|confident))|can't (?:say"
        r"|tell))(?: (?:whether|if|that))?",
        r"(?:cannot|can not|can't|could not|difficult to|hard to) (?:be )?(?:distinguish\w*|differentiat\w+"
        r"|separat\w+|discern\w*)",
        r"(?:doubt|doubtful|not (?:sure|certain|clear|convinced)|dubious|borderline for|suspiciously|tentative\w*"
        r"|arguably|seemingly|maybe"
        r"|not convincing\w*|provisional\w*)(?: (?:as to|about))?(?: (?:of|for|that|whether|if))?",
        r"(?:with or without|indistinguishable(?: from)?|inseparable from|alternative\w*|versus also)",
        r"(?:likelihood|chance|risk|hint|impression|element|component) of(?= (?:\w+ ){0,2}(?:pneumon|infect|edema"
        r"|effus|consol|atelec|nodul|mass|fract))",
        r"(?:would|should) (?:be considered|consider|raise)",
        r"(?:to be|needs to be|must be|should be|need to) (?:excluded|ruled out|considered|exclude|rule out)(?= \w)",
        r"(?:cannot|can not|can't|not|could not|couldn't|unable to|difficult to|hard to|impossible to|not possible to"
        r"|would not"
        r"|wouldn't)"
        r" (?:be )?(?:\w+ly )?(?:exclude|rule (?:in or )?out|excluding)",
        r"(?:does|do|did) not (?:\w+ly )?(?:exclude|rule out)",
        r"(?:less (?:likely|probabl[ey]|typical|suggestive|in keeping|consistent|compatible|xxxx)(?: (?:of|for|with))?"
        r"|unlikely|(?:favored|preferred) (?:over|to)|more (?:likely"
        r"|probable|probably|so) than)",
        r"(?:includ(?:es?|ing)|would include)",  # after "differential"
        r"differentials?(?!(?: \w+)? (?:for|of) (?:the|this|these|an?)\b)(?: (?:diagnos[ie]s"
        r"|considerations?))?(?: (?:includes?|would include|of|is"
        r"|remains?))?",
        r"(?:potential|potentially|perhaps|presumed|presumably|conceivably)",
        r"(?:raises?|raising)",
        r"(?:consider|consideration)(?: of)?",
        r"suggest\w*(?! (?:an? )?(?:\w+ )?(?:ct|mri|follow|follow-?up|repeat|correlation|lateral|radiographs?|views?"
        r"|comparison|ultrasound)\b)(?: of)?",
        r"(?:likelier than|out(?:ranks|weighs)|(?:rather )?ahead of)",
        r"(?:versus|vs)",  # what stands before it is the leading reading and stays asserted
        r"or (?:early|developing|less likely|possibly|perhaps|even)",
    ),
    # Doubts the last findings before it.
    "post_uncertainty": (
        r"(?:is|are|remains?|was|were|seems?|appears?|felt|thought|would be|could be|may be)"
        r"(?: (?:also|still|certainly|thought|felt|to be|be|an?|the|one|another|within|in|on))*(?: \w+)?? " + _DOUBTED,
        _DOUBTED,
        r"(?:is |are )?not (?:\w+ly )?(?:favored|preferred|certain|definite|clear-?cut|proven)(?= ?(?:$|[.,;]))",
        r"(?:is |are )?(?:to be|needs to be|needs|requires?|awaits?) (?:confirm\w+|excluded|ruled out|exclusion)",
        r"(?:cannot|can not|can't|could not|couldn't) (?:\w+ly )?be (?:\w+ly )?"
        r"(?:excluded|ruled out|assessed|evaluated|confirmed|discounted|dismissed)",
        r"(?:(?:is|are|has|have) )?not (?:been )?(?:\w+ly )?(?:excluded|excludable|ruled out)",
        r"as (?:an? |the )?(?:second choice|(?:\w+ )?alternative|second possibility|next possibility|less likely \w+)",
        r"(?:(?:is|are|remains?) )?(?:would be |may be |can be |will be )?(?:difficult|hard"
        r"|impossible) to (?:\w+ly )?(?:exclude|rule out)"
        r"(?= ?(?:$|[.,;(]|(?:on|in|at|from|given|as|with|without|here|because|due|but|and|by|unless|until|despite"
        r"|if|for"
        r"|due|owing|radiographically|completely|entirely)\b))",
        r"(?:must|should|needs? to|has to|have to|still to|to) be (?:\w+ly )?(?:excluded|ruled out)",
        r"(?:should|could|may|might|can) be (?:considered|present|suspected|entertained|hidden|obscured|missed"
        r"|overlooked|masked)",
        r"(?:could|may|might|would|can) (?:also |well |possibly )*(?:explain|account for|cause|produce|have (?:this"
        r"|a similar)|look (?:like this|similar|the same|alike)"
        r"|give|mimic|be responsible)",
        r"(?:is|are|was|were) (?:not well|poorly|incompletely|suboptimally) (?:seen|evaluated|visuali[sz]ed|assessed)",
        r"if (?:present|any)",
        r"(?:may|might|could) not be (?:seen|demonstrated|visuali[sz]ed|apparent|visible)",
        r"(?:is|are) (?:obscured|equivocal|uncertain|unlikely|less likely|questionable)(?! (?:that|to|if|whether"
        r"|for)\b)",
    ),
    # Says that the finding is not of today or is only asked about: no label.
    "not_asserted": (
        r"(?:history|hx)(?: (?:of|includes?)|:)",
        r"(?:to )?(?:rule[- ]out|evaluate for|assess for|look for|check for|query for|screen\w* for)",
        r"(?:previous|prior|recent) (?=(?:\w+ ){0,2}(?:pneumon|tubercul|cancer|carcin|malig|metast|infection))",
        r"known (?=(?:\w+ ){0,2}(?:tubercul|cancer|carcin|malig|metast))",
        r"(?:being|been|was|is|recently|currently|previously) (?:\w+ly )?(?:treated|admitted|managed) (?:for|with)",
        r"(?:exam|examination|study|film|radiograph|request\w*) (?:\w+ )?(?:ordered|requested|obtained|performed"
        r"|done|made) (?:for|because of)",
        r"(?:presents?|presented|presenting|admitted|referred) (?:with|for)",
        r"to (?:exclude|evaluate|assess|detect)",
        r"(?:more )?sensitive (?:\w+ ){0,2}(?:for|in|to)",
        r"correlat\w+ (?:\w+ ){0,2}(?:for|with|as to|to)",
        r"(?:evaluate|evaluation|assess|assessment) for",
        r"if(?: there is)?",
        r"(?:to )?(?:ensure|confirm|document|insure)",
        r"(?:treated|treatment (?:of|for)|follow[- ]?up (?:of|for))",
        r"for(?<=ectomy for)",
        r"of(?<=resection of)",
        r"for(?<=resection for)",
        r"for(?<=therapy for)",
        r"for(?<=surgery for)",
        r"for(?<=radiation for)",
        r"(?:drainage|aspiration|tapping) of",
    ),
    # Looks like a negation or a doubt, and is none: the finding after it is there.
    "affirmation": (
        r"(?:no|without|not|little)"
        r"(?: (?:significant|significantly|substantial|appreciable|definite|interval|major|marked|obvious"
        r"|evident|gross|grossly|real|new|further|overall|much|evidence of))*"
        r" (?:change|changes|changed|decrease|increase|improvement|worsening|progression|resolution|clearing"
        r"|different|difference|resolved|comparison|comparisons|prior|priors|previous)"
        r"(?: (?:in|of|from|to|since|with|is|are|for|or))*",
        r"(?:no|without) (?:\w+ )?(?:enlargement|growth|expansion|extension)(?= (?:of|in) (?:the |this )?(?:\w+ ){0,2}"
        r"(?:effus|nodul|mass|pneumoth|opac|consol|lesion))",
        r"not (?:\w+ly |yet )?(?:resolved|cleared|gone|disappeared)",
        r"(?:nearly|partially|partly|mostly|largely|almost|incompletely) (?:\w+ly )?(?:resolved|cleared|gone"
        r"|disappeared|re-?expanded)",
        r"not (?:only|just|merely|without|negative for|free of|devoid of|absent|clear of|uncommonly|infrequently)",
        r"not (?:\w+ly )?(?:large|larger|smaller|small|big|bigger|extensive|marked|severe|increas\w+|decreas\w+"
        r"|worse\w*|better|improv\w+"
        r"|progress\w*|chang\w+|as|so|very|typical|classic\w*|characteristic|specific|new|acute|tension|loculated"
        r"|calcified)"
        r"(?! (?:\w+ )?(?:pneumon|effus|edema|consol|nodul|mass|fract|opac|infil|atelec))",
        r"(?:no|without) (?:absence|lack) of",
        r"(?:partial|incomplete|near|near-complete|nearly complete|almost complete|some|ongoing|slow)"
        r" (?:complete )?(?:interval )?(?:resolution|clearing)(?: of)?",
        r"(?:may|can) be (?:compared|seen(?! (?:with|in)\b)|correlated)",
        r"no doubt(?: of)?",
        r"(?:has|have) (?:\w+ly )?(?:changed|moved|grown|increased|decreased|improved|worsened|progressed|enlarged)"
        r"(?! in (?:\w+ )?size)",
        r"(?:to|until|pending) (?:\w+ )?(?:(?:complete|full|interval|its|the) )*(?:resolution|clearing|clearance) of",
    ),
    # Stands for the finding that was denied before it: "no effusion on the left but there is one on the right".
    "pronoun": (
        r"(?:the )?(?:left|right|other|smaller|larger)(?:-sided)? one(?= ?(?:$|[.,;]|(?:is|was|has|remains?"
        r"|persists?|on|in|at|of"
        r"|unchanged|stable)\b))",
        r"(?:besides|beyond|other than|except(?: for)?|(?:apart|aside) from|than) (?:that|those) (?:of|in|at|on"
        r"|involving)",
        r"(?:there is|but(?: for)?|except(?:ing|ed)?(?: for)?|(?:apart|aside) from|other than|only)(?: now)? (?:an? )?"
        r"(?:(?!possible|questionable|probable)[\w-]+ ){0,4}one(?= ?(?:$|[.,;]|(?:on|in|at|of)\b))",
    ),
    # Ends every scope.
    "boundary": (
        r"(?:but|however|although|though|yet|except|excepting|while|whereas|nevertheless|nonetheless"
        r"|despite)",
        r"otherwise(?! (?:\w+ )?(?:normal|unremarkable|clear|intact|negative))",
        r"(?:superimposed (?:on|upon)|in addition to|on top of|(?:on|against) a background of)",
        r"(?:besides|beyond|(?:apart|aside) from)",
        r"(?:following|after|status post|since|post(?= (?:drain|tube|line|chest|removal|biopsy|procedure|insertion"
        r"|\w*tubation|thoracentesis)))",
        r"other than",
        r"with",
        r"there (?:is|are|was|were|has been|have been)",
    ),
    # Says of the finding after it what was said of the one before it.
    "likewise": (r"so (?:is|are|was|were)", r"(?:the )?same (?:goes|applies|holds|is true) (?:for|to|of)"),
    # Ends the group, not the scope: what caused it is no part of its list.
    "cause": (r"(?:secondary|due|owing|related|attribut\w+) to",),
    # Goes on with what stands before it: "no opacity is seen to suggest pneumonia".
    "purpose": (r"to (?:suggest|indicate)",),
    # Ends the scope, but speaks of the same organ: "the heart, which is enlarged".
    "relative": (r"which",),
    # Opens a new clause after "," or "and" inside a negated list: "no pneumothorax, small effusion".
    "fresh_start": (
        r"(?:subtle|old|healed|healing|evolving|slight|slightly|loculated|known|multiple|several|borderline|also"
        r"|definite|definitely|obvious|small|smaller|tiny|trace|mild|mildly|minimal|minimally|moderate|moderately"
        r"|moderate-to-large|severe|marked"
        r"|stable|unchanged|persistent|persisting|increased|increasing|decreased|decreasing|interval|improved"
        r"|improving|worsening|worsened"
        r"|chronic|bibasilar|bibasal|probable|likely|redemonstrat\w+|again|diffuse|patchy|streaky|scattered)",
    ),
    # Neutral words in which a cue word must not be seen.
    "neutral": (
        r"(?:most|highly|strongly|very) suggestive of",
        r"(?:consistent|compatible|keeping|associated|compared|comparison|concordant) (?:with|to)",
        r"when compared with",
        r"with (?:regard|respect) to",
        r"(?:cannot|can not) (?:be )?(?:\w+ly )?(?:determined|stated)",
        r"not (?:optimal|optimally|included|imaged|available|provided|appreciably|well)",
        r"prior to",
        r"differentials? (?:diagnos[ie]s |considerations? )?(?:for|of)(?= (?:the|this|these|an?)\b)",
        r"age[- ](?:indeterminate|uncertain|unknown|undetermined)",
        r"(?:indeterminate|uncertain|unknown|undetermined|unclear|questionable) (?:in )?(?:age|chronicity|acuity"
        r"|etiology|cause|origin|significance|nature|clinical)",
        r"(?:age|chronicity|acuity|etiology|cause|origin|significance|nature) (?:is |are |remains )?(?:uncertain"
        r"|unknown"
        r"|indeterminate|undetermined|unclear)",
        r"(?:no longer|not) " + _ADVERB + _SEEN + r"(?! (?:is|are)\b)",
    ),
    # Words of a report that name nothing by themselves: they tell a report from other text.
    "report_word": (
        r"(?:disease|process|abnormalit\w+|complications?|findings?|radiographs?|radiographic\w*|study|exam"
        r"|examination|films?)",
    ),
    # Prefers what stands after or before it; "over" and "than" then open the other reading.
    "preference": (
        r"(?:favor\w*|prefer\w*|speaks? (?:more |rather )?(?:for|in favor of)|leans? towards?|points? (?:more "
        r"|rather )(?:to|towards?))",
        r"more (?:likely|probable|probably|in keeping with|consistent with|compatible with|suggestive of|typical of"
        r"|like)",
    ),
    "less_preferred": (
        r"(?:over|than)(?: (?:with|for|of|to|by|from))?",
        r"to (?=(?:an? )?(?:\w+ ){0,2}(?:pleural|consol|pneum|infec|edema|atelec"
        "|mass|nodul|effus|collap|scar))",
    ),
    "verb": (
        r"(?:is|are|was|were|has|have|had|appears?|remains?|persists?|demonstrates?|shows?|reveals?)",
        r"(?:seen|noted|identified|present|visuali[sz]ed|demonstrated|represents?|reflects?|indicates?|measur\w+"
        r"|obscur\w+)",
    ),
    "alternative": (r"(?:or|and/or)(?: (?:with|from|due to))?",),
    "conjunction": (r"and",),
    # States of anatomy: with the heart or mediastinum they become findings.
    "normal_state": (
        r"(?:within (?:the )?(?:normal|physiologic\w*) (?:limits?|range)|normal|unremarkable|within normal limits"
        r"|within limits|wnl|nonenlarged|top normal"
        r"|(?:at )?(?:the )?(?:upper|upper limits?|upper range) ?(?:of )?(?:the )?normal(?: limits?| range)?)",
        r"top[ -]normal",
        r"near top normal",
        r"(?:clear|intact|midline|patent|sharp|well[- ](?:expanded|aerated|inflated|ventilated)|preserved"
        r"|satisfactory|negative)",
    ),
    "enlarged_state": (
        r"(?:(?:borderline )?(?:enlarg\w*|prominent|prominence)|widen\w*|borderline)",
        r"(?:increased?|increasing) (?:in )?(?:\w+ )?size",
        r"increase in (?:the )?size",
        r"(?:increased(?= ?(?:$|[.,;]))|big|huge)",
        r"(?:is|are|appears?) (?:\w+ly )?increased",
        r"(?:is|are|remains?|slightly|mildly|moderately|somewhat|markedly) large",
        r"(?:is|are|appears?|remains?|slightly|mildly|moderately|somewhat|markedly) (?:\w+ly )?(?:wide|broad)",
        r"above normal",
    ),
}

_LIST_WORDS = """
a an any the of for in focal pleural pulmonary lung rib bony osseous acute active definite other discrete
significant large suspicious evidence signs sign area areas focus air space airspace lobar interstitial alveolar
confluent mass cardiac mediastinal hilar parenchymal vascular venous chest pericardial free subcutaneous
displaced obvious overt frank further additional new acute-appearing cavitary pneumonic infectious inflammatory
infective abnormal radiographic apical tension gross worrisome noncalcified measurable sizable sizeable
appreciable visible convincing bronchial ground glass ground-glass reticular nodular solitary spiculated
peribronchial lymph and or nor no not xxxx
"""
LIST_WORDS = frozenset(_LIST_WORDS.split())
"""Words that a denied list may hold beside its names; another word after a comma opens a clause of its own."""

_PLACES = """
left right bilateral bibasal bibasilar basal basilar base bases lower upper mid middle lobe lobes zone zones
lung apex apices apical lingula lingular perihilar retrocardiac lll rll rul lul rml sided left-sided right-sided
"""
PLACES = frozenset(_PLACES.split())
"""Words of place: after a denied finding without any comma they open a clause of their own."""

_HARMLESS = """
a an the of for in on at to by and or as is are was were be been this that these those it its both all other there
no not with from than which can has have had do does very grossly overall again also now still xxxx right left
bilateral bilaterally right-sided left-sided upper lower mid middle central posterior anterior lateral frontal
superior inferior pa ap view views two one single two-view portable supine erect upright semi-erect projection
obtained performed compared comparison prior previous recommend recommended suggest advised follow-up followup
further evaluation evaluate characterization characterized characterize study exam examination x-ray cxr radiograph
radiographs film films image images imaging ct contrast spine thoracic lumbar lumbosacral neck lobe zone zones
field fields base bases tip region position positioned area size sized shape contour contours configuration
appearance appear appears appearing volume volumes structures elements body bodies silhouette outline border
borders margin margins angle angles space spaces wall surface surfaces smooth markings system projected stable
unchanged maintained normally expanded inflated aerated aeration ventilated symmetric symmetrical symmetrically
equal equally visualized visible seen noted included imaged shown demonstrated adequate adequately good
satisfactory full fully well optimal age limits range remain remains remaining otherwise only patient patients
given differences rotation rotated limited partially technique inspiration inspiratory exposure penetration height
heights alignment during change interval since time radiographically essentially within above below level levels
over overlying through cavity grid course courses
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Words that may stand beside anatomy and say nothing of it."""
