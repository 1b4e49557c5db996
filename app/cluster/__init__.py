"""The service over several machines, by Ray Serve (extra ``ray``).

    client --> Ingress replicas (the application; decode and cut) --crops--> Engine replicas (batcher, models)

``application.py`` builds the Serve application, ``ingress.py`` and ``engine.py`` are the two kinds of replica,
``remote.py`` is the client that ingress replicas call engine replicas with, ``autoscaling.py`` decides the number of
engine replicas.
"""
