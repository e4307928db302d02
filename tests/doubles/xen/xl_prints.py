"""What xl prints about a host, as Xen 4.17 and 4.20 do: `xl info` and `xl list -v`."""

INFO = """\
host                   : dom0
release                : 6.1.0-41-amd64
nr_cpus                : 1
cpu_mhz                : 2596.130
virt_caps              : pv
total_memory           : 2047
free_memory            : 1234
xen_major              : 4
xen_minor              : 17
xen_extra              : .6-pre
xen_version            : 4.17.6-pre
xen_commandline        : placeholder console=com1 dom0_mem=700M
"""

LIST = """\
Name                                        ID   Mem VCPUs      State   Time(s)   UUID\
                            Reason-Code        Security Label
Domain-0                                     0   700     1     r-----      14.2   \
00000000-0000-0000-0000-000000000000                -               -
a name with 3 blanks                         2   128     1     -b----       0.3   \
9233e52c-49ca-454f-96be-f53e22f3994d                -               -
(null)                                       7    16     2     --p---       0.0   \
18be6b66-e6e1-11f1-bc13-830b39936407                -               -
"""
