package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/keyraft/keyraft/internal/config"
)

// networkFS are the magic numbers of file systems whose locks and syncs are not
// to be trusted with a log.
var networkFS = map[int64]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x517b: "SMB", 0x5346414f: "AFS", 0x01021997: "9P",
}

// diskSpace is the size of the file system that holds a folder, and what is left of
// it for this user, in bytes.
func diskSpace(dir string) (size, free uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("look at the file system of the data folder: %w", err)
	}
	block := uint64(fs.Frsize)
	return fs.Blocks * block, fs.Bavail * block, nil
}

// checkDisk refuses a network file system, unless it is allowed (E5).
func checkDisk(dir string, allow bool) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the file system of the data folder: %w", err)
	}
	if name, is := networkFS[int64(uint32(fs.Type))]; is && !allow {
		return config.NewError("data_dir", "is on "+name+", a network file system", "use a local disk, or set storage.allow_network_fs if you know that its locks and syncs hold")
	}
	return nil
}
