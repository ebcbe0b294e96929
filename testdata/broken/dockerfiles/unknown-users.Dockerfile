FROM base
USERS app
