FROM --platform=$NOPE base
