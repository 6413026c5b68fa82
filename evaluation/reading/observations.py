"""The CheXpert label tree: a finding that is there brings its parent with it (Irvin et al. 2019, figure 1)."""

OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
PARENT = {"Cardiomegaly": "Enlarged Cardiomediastinum", **dict.fromkeys(OPACITIES, "Lung Opacity")}
