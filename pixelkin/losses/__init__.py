"""Loss functions: (Fields, labels) to scalars."""
