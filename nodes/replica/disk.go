package replica

import "errors"

// ErrPowerLost is what every call of a disk answers once its power is gone.
var ErrPowerLost = errors.New("replica: the disk lost its power")

// A Disk is one node's folder of files, and the seam where a simulation takes
// the place of the operating system. Names are flat: no slashes. Any call may
// fail; after a failure the node that owns the disk ends.
//
// A write is durable after the file's Sync; a name (created, renamed, removed)
// is durable after SyncDir. Until then power loss may keep any part of it.
type Disk interface {
	// Open opens a file for reading and writing. Where it does not exist, it
	// is made if create is set; else the error is fs.ErrNotExist.
	Open(name string, create bool) (File, error)
	// Rename puts a file under another name, replacing what had that name, at once.
	Rename(from, to string) error
	// Remove takes a file away; a missing one is fs.ErrNotExist.
	Remove(name string) error
	// List names all files, ascending.
	List() ([]string, error)
	// SyncDir makes all names durable.
	SyncDir() error
}

// A File is an open file of a Disk. Calls for different files may run at the
// same time; calls for one file may not.
type File interface {
	// WriteAt writes all of p or answers an error.
	WriteAt(p []byte, off int64) (int, error)
	// ReadAt is io.ReaderAt's.
	ReadAt(p []byte, off int64) (int, error)
	// Size is the length in bytes.
	Size() (int64, error)
	// Preallocate makes a new file size bytes of zeros that are really
	// written, so that a later write in place changes no metadata.
	Preallocate(size int64) error
	// Sync makes what was written durable; only what reading it back needs of
	// the metadata (fdatasync).
	Sync() error
	Close() error
}
