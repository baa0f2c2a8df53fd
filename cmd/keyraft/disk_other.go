//go:build !linux

package main

import "errors"

// checkDisk knows the file systems of Linux only.
func checkDisk(string, bool) error { return nil }

// diskSpace is known on Linux only.
func diskSpace(string) (size, free uint64, err error) { return 0, 0, errors.ErrUnsupported }
