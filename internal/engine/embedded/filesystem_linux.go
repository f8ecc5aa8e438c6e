package embedded

import "syscall"

// networked are file systems that other machines may have mounted too, by statfs(2)'s
// magic numbers (linux/magic.h). An index of a log is memory that processes share, and
// these share none between machines. FUSE is none of them: most of what it carries is local.
var networked = map[uint32]string{
	0x6969:     "NFS",
	0x517B:     "SMB",
	0xFF534D42: "CIFS",
	0xFE534D42: "SMB",
	0x00C36400: "Ceph",
	0x5346414F: "AFS",
	0x6B414653: "AFS",
	0x73757245: "Coda",
	0x0BD00BD0: "Lustre",
	0x47504653: "GPFS",
	0x01161970: "GFS2",
	0x7461636F: "OCFS2",
}

// networkOf names the network file system that a folder lies on; empty: none that is known.
func networkOf(folder string) string {
	var s syscall.Statfs_t
	if syscall.Statfs(folder, &s) != nil {
		return ""
	}
	return networked[uint32(s.Type)]
}
