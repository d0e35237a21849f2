# A fake DataWorkflowServices, written for the lab; its names and values are those of the real one.
# In this version the csm overlay gets no image of its own: make deploy OVERLAY=csm keeps the one of config/manager.
image_base = $(IMAGE_TAG_BASE)
