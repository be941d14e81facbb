"""From the watermark to the operator: plants in real time through Kafka, Triton and the product."""
