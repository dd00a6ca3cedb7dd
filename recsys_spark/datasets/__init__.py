"""Sample data sets: an adapter writes a package's tables to a landing folder, as a user's files would lie there."""
