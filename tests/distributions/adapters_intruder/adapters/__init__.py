"""A regular package under the name of a namespace package that others share."""
