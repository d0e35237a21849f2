# A fake DataWorkflowServices, written for the lab; its names and values are those of the real one.
image_base = $(if $(filter csm,$(OVERLAY)),$(shell awk '$$1 == "newName:" && $$2 ~ /\/dws$$/ {print $$2}' config/csm/kustomization.yaml),$(IMAGE_TAG_BASE))
