FROM a
COPY <<E  f a
	F
E
