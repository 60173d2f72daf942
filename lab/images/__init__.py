"""The images of the Compose replica: official where a registry answers, stand-ins elsewhere.

choice.py      has every image on the engine, and says where each came from
catalogue.py   which images there are, and what each stand-in is made of
engine.py      the container engine, over its command line
pull.py        official images, and registries that do not answer
debian.py      the base of the stand-ins, from Debian's packages
programs.py    what the stand-ins run: locked wheels, and Go modules
build.py       stand-ins and the backend
env_file.py    compose/.env: the chosen tags, and this machine's passwords

Dockerfiles and entry points are in ``compose/images`` and ``compose/backend``.
"""
