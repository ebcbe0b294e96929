FROM a
COPY <<E [c a
	F
E
