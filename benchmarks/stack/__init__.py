"""The whole product on one machine, without containers, while part after part is killed."""
