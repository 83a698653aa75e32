"""What stands behind the stages' ports: stores and the catalog, in the words of a stage."""
