"""One full loop on real services: the plant moves, a new model is made of it, judged, and serves.

Then once more with data that lie, and the gate refuses. A real Apache Kafka, a real Prefect server
with a worker, MLflow, and the real ``fusion live``; what is sent is simulated.
"""
