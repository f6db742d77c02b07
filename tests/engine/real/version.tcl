puts $tcl_patchLevel
