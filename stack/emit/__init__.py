"""From scheduled programs to the files of a library. One file a container: `native` needs no TVM to run, `vm` runs in TVM's virtual machine."""
