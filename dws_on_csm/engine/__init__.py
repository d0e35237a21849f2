"""Look, plan, apply, prove; knows no stage and no screen."""
