"""How does a device without internet get software and model? By signed kits, tested there before they are used."""
