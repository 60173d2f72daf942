"""The pages of the live server, a module each: to add one, add its file.

A module has a function ``add(site)``, which adds routes to ``site.app`` and, where the page is to
be found from every other, a `PageLink` to ``site.links``. `Site` says what it may use: the stored
runs, documents that a command makes, and `Site.page`, which renders a template that extends
``page.html.j2``. Every answer gets the guard's headers, but for a policy that it has of its own.
"""
