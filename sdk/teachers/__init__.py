"""What a teacher said of each training example, kept in memory or on disk."""
