"""The words that decide what a sentence says about a finding: negation, doubt, scope and states of anatomy.

Same pattern language as `labeler_phrases`. The kinds and what they do are explained in `labeler_scope`.
"""

# Adverbs between a verb and what it negates: "is not clearly seen".
_ADVERB = r"(?:(?:clearly|definitely|definitively|currently|actually|otherwise|longer|now|grossly|convincingly) )?"
_SEEN = (
    r"(?:seen|identified|visuali[sz]ed|visible|appreciated|noted|present|evident|apparent|demonstrated|detected|observed"
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

CUES: dict[str, tuple[str, ...]] = {
    # Negates the findings after it.
    "negation": (
        r"(?:no longer|not) (?:seen|identified|present|visuali[sz]ed) (?:is|are)",
        r"no(?: longer)?" + _EVIDENCE + _QUALIFIER,
        r"without" + _EVIDENCE + _QUALIFIER,
        r"w/o" + _QUALIFIER,
        r"negative for" + _EVIDENCE + _QUALIFIER,
        r"(?:nor|neither)" + _QUALIFIER,
        r"not" + _QUALIFIER,
        r"(?:free|clear) (?:of|from)" + _EVIDENCE + _QUALIFIER,
        r"(?:absence|lack) of" + _EVIDENCE + _QUALIFIER,
        r"(?:absent(?! (?:lung|vascular|pulmonary|bronchovascular) markings)|resolved|cleared)",
        r"(?:resolution|clearing|clearance|disappearance|removal|absence) of",
        r"(?:has|have|had) been removed",
        r"denies",
        r"excludes?",
        r"(?:ruled|rules) out",
        r"(?:rather than|xxxx than|as opposed to|instead of)",
        r"(?:do|does|did) not (?:demonstrate|show|reveal|have|contain|represent)" + _QUALIFIER,
        r"(?:aren't|isn't|doesn't|don't)",
        r"fails? to (?:show|demonstrate|reveal)",
        r"low (?:suspicion|likelihood|probability) (?:of|for)",
    ),
    # Negates the findings before it.
    "post_negation": (
        r"(?:(?:is|are|was|were|has been|have been) )?(?:no longer|not) " + _ADVERB + _SEEN + _ELSEWHERE,
        r"(?:(?:is|are|was|were) )?(?:not|no longer) (?:any|a|an)? ?(?:\w+ )?(?:identifiable|detectable|discernible)",
        r"(?:isn't|aren't|wasn't|weren't) " + _ADVERB + _SEEN + _ELSEWHERE,
        r"cannot be (?:seen|identified|appreciated)" + _ELSEWHERE,
        r"(?:has|have|had|is|are|was|were)"
        r"(?! (?:\w+ )?(?:nearly|partially|partly|mostly|largely|almost|incompletely)) (?:since |now |been |\w+ly )*"
        r"(?:resolved|cleared|disappeared|removed|excluded|ruled out|absent|gone)",
        r"(?:resolved|absent|none|disappeared|cleared)(?= ?(?:$|[.,;]))",
        r"(?:is|are) (?:negative|absent)",
        r"negative(?= ?(?:$|[.,;]))",
        r"no(?= ?(?:$|[.,;]))",
    ),
    # Doubts the findings after it.
    "uncertainty": (
        r"(?:possible|possibly|possibility of)",
        r"(?:may|might|could)(?: (?:also|well|potentially|in part|partially))?"
        r"(?: (?:be|represent|reflect|indicate|relate|suggest|have|contain|include|still))?",
        r"(?:question|questionable|questionably|query|equivocal|indeterminate)(?: of)?",
        r"(?:concern|concerns|concerning|worrisome|suspicious|suspicion|suspected|suspect) ?(?:for|of|about)?",
        r"(?:cannot|can not|can't|not|could not|couldn't|unable to|difficult to|hard to)"
        r" (?:be )?(?:\w+ly )?(?:exclude|rule out|excluding)",
        r"(?:does|do|did) not (?:\w+ly )?(?:exclude|rule out)",
        r"(?:less likely|less xxxx|unlikely|favou?red over)",
        r"(?:differential|differentials?)",
        r"(?:potential|potentially|perhaps|presumed|presumably|conceivably)",
        r"(?:raises?|raising)",
        r"(?:consider|consideration)(?: of)?",
        r"suggest\w*(?: of)?",
        r"(?:versus|vs)",  # what stands before it is the leading reading and stays asserted
    ),
    # Doubts the last findings before it.
    "post_uncertainty": (
        r"(?:is|are|remains?|was|were) (?:also |still |certainly )?"
        r"(?:possible|possibilities|questioned|considered|suspected)"
        r"(?= ?(?:$|[.,;(]|(?:but|in|at|and|or|given|on|as|by)\b))",
        r"(?:cannot|can not|can't|could not|couldn't) (?:\w+ly )?be (?:\w+ly )?"
        r"(?:excluded|ruled out|assessed|evaluated)",
        r"(?:(?:is|are) )?not (?:\w+ly )?(?:excluded|ruled out)",
        r"(?:(?:is|are) )?(?:difficult|hard) to (?:\w+ly )?(?:exclude|rule out)(?= ?(?:$|[.,;]))",
        r"(?:should|could|may|might|can) be (?:considered|present|suspected|entertained)",
        r"(?:is|are|was|were) (?:not well|poorly|incompletely|suboptimally) (?:seen|evaluated|visuali[sz]ed|assessed)",
        r"(?:less likely|unlikely|questionable|possible|suspected|questioned)(?= ?(?:$|[.,;]))",
        r"if (?:present|any)",
        r"(?:may|might|could) not be (?:seen|demonstrated|visuali[sz]ed|apparent|visible)",
        r"(?:is|are) (?:obscured|equivocal|uncertain|unlikely|less likely|questionable)(?! (?:that|to)\b)",
    ),
    # Says that the finding is not of today or is only asked about: no label.
    "not_asserted": (
        r"(?:history|hx) of",
        r"h/o",
        r"(?:to )?(?:rule[- ]out|evaluate for|assess for|look for|r/o)",
        r"to (?:exclude|evaluate|assess|detect)",
        r"(?:more )?sensitive (?:\w+ ){0,2}(?:for|in|to)",
        r"correlat\w+ (?:\w+ ){0,2}(?:for|with|as to|to)",
        r"(?:evaluate|evaluation|assess|assessment) for",
        r"if(?: there is)?",
        r"(?:to )?(?:ensure|confirm|document|insure)",
        r"treated",
    ),
    # Looks like a negation or a doubt, and is none: the finding after it is there.
    "affirmation": (
        r"(?:no|without|not|little)"
        r"(?: (?:significant|significantly|substantial|appreciable|definite|interval|major|marked|obvious"
        r"|evident|gross|grossly|real|new|further|overall|much|evidence of))*"
        r" (?:change|changes|changed|decrease|increase|improvement|worsening|progression|resolution|clearing"
        r"|different|difference|resolved|comparison|comparisons|prior|priors|previous)"
        r"(?: (?:in|of|from|to|since|with|is|are|for|or))*",
        r"not (?:completely|entirely|fully|yet|totally) (?:resolved|cleared)",
        r"(?:nearly|partially|partly|mostly|largely|almost|incompletely) (?:\w+ly )?(?:resolved|cleared)",
        r"not (?:only|just|without|negative for|free of|devoid of|absent|clear of)",
        r"(?:no|without) (?:absence|lack) of",
        r"(?:partial|incomplete|near|near-complete|nearly complete|almost complete|some|ongoing|slow)"
        r" (?:complete )?(?:interval )?(?:resolution|clearing)(?: of)?",
        r"(?:may|can) be (?:compared|seen|correlated)",
        r"no doubt(?: of)?",
    ),
    # Ends every scope.
    "boundary": (
        r"(?:but|however|although|though|yet|except|excepting|while|whereas|otherwise|nevertheless|nonetheless|despite)",
        r"(?:apart|aside) from",
        r"(?:following|after|status post|s/p)",
        r"other than",
        r"with",
        r"there (?:is|are|was|were|has been|have been)",
    ),
    # Goes on with what stands before it: "no opacity is seen to suggest pneumonia".
    "purpose": (r"to (?:suggest|indicate)",),
    # Ends the scope, but speaks of the same organ: "the heart, which is enlarged".
    "relative": (r"which",),
    # Opens a new clause after "," or "and" inside a negated list: "no pneumothorax, small effusion".
    "fresh_start": (
        r"(?:small|smaller|tiny|trace|mild|mildly|minimal|minimally|moderate|moderately|moderate-to-large|severe|marked"
        r"|stable|unchanged|persistent|persisting|increased|increasing|decreased|decreasing|interval|improved|improving|worsening|worsened"
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
        r"age[- ]indeterminate",
        r"(?:no longer|not) " + _ADVERB + _SEEN + r"(?! (?:is|are)\b)",
    ),
    # Words of a report that name nothing by themselves: they tell a report from other text.
    "report_word": (
        r"(?:disease|process|abnormalit\w+|findings?|radiographs?|radiographic\w*|study|exam|examination|films?)",
    ),
    "verb": (
        r"(?:is|are|was|were|has|have|had|appears?|remains?|persists?|demonstrates?|shows?|reveals?)",
        r"(?:seen|noted|identified|present|visuali[sz]ed|demonstrated)",
    ),
    "alternative": (r"(?:or|and/or)",),
    "conjunction": (r"and",),
    # States of anatomy: with the heart or mediastinum they become findings.
    "normal_state": (
        r"(?:normal|unremarkable|within normal limits|within limits|wnl|nonenlarged|top normal"
        r"|(?:at )?(?:the )?(?:upper|upper limits?|upper range) ?(?:of )?(?:the )?normal(?: limits?| range)?)",
        r"top[ -]normal",
        r"near top normal",
        r"clear",
    ),
    "enlarged_state": (
        r"(?:(?:borderline )?(?:enlarg\w*|prominent|prominence)|widen\w*|borderline)",
        r"(?:increased?|increasing) (?:in )?(?:\w+ )?size",
        r"increase in (?:the )?size",
        r"(?:is|are|appears?) (?:\w+ly )?increased",
        r"(?:is|are|remains?|slightly|mildly|moderately|somewhat|markedly) large",
        r"above normal",
    ),
}
