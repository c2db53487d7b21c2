"""The OpenAPI description of the service: each operation as data, and the document that is made of them."""
