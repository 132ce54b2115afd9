"""One file a format: a model file becomes Relax with known shapes."""
