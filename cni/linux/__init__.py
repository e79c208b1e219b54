"""The one door to the kernel: namespaces, netlink, nftables, sysctl."""
