"""Which classes an image shows, without where: image tags from files, folders and annotations."""
