"""The service over several machines, by Ray Serve (extra ``ray``).

    client --> Ingress replicas (the application; decode and cut) --crops--> Engine replicas (batcher, models)

``application.py`` puts the two together, ``ingress.py`` and ``engine.py`` are the two kinds of replica, ``remote.py``
is the way from one to the other, ``autoscaling.py`` says how many engines are wanted.
"""
