"""Study records to batches: images, augmentation, examples, sentences, dialogue, sampling."""
