"""What can be computed: one file a family of primitives, all rules of a primitive together."""
