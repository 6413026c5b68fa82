"""What a report says: labels, sentences, sections, sides, contradictions, comparisons with priors."""
