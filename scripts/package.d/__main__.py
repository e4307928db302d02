"""For `python3 FOLDER` and `python3 xenqemu.pyz`."""

from xenqemu.called_as import main

main()
