"""What is told of models: to people, programs and Prometheus."""
