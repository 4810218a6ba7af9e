"""Pictures with objects: sources in the usual layouts, augmentation that moves boxes along, batches."""
