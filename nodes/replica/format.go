package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"chaos/nodes/consensus"
)

// The journal's format, version 1; numbers are little-endian.
//
//	segment   header (headerSize bytes), batches, zeros up to its size
//	header    magic 8 · version 2 · node 2 · restart 4 · segment 8 · first batch 8 ·
//	          mark 8 · restart batches 4 · size 8 · cluster name 1+n · zeros · CRC32C 4
//	batch     magic 4 · body length 4 · sequence 8 · records 4 · CRC32C of the body 4 ·
//	          CRC32C of these 24 bytes 4 · guard 4 · body · guard 4
//	record    length 4 · CRC32C 4 · bytes
//
// A batch is what one sync made durable. Its header's checksum is seeded with
// that of its segment, so no record can imitate a batch. The guards are bytes
// that are not zero: where a header or a batch was not written to its end, the
// zeros of the preallocated file show in their place.
const (
	formatVersion = 1
	headerSize    = 4096
	batchHeader   = 32
	guardSize     = 4
	recordHeader  = 8
	clusterMax    = 255 // bytes of a cluster's name
)

var (
	segmentMagic = [8]byte{'c', 'h', 'a', 'o', 's', 'j', 'n', 'l'}
	batchMagic   = [4]byte{0xd1, 0xc4, 0xa7, 0x62}
	guard        = [guardSize]byte{0xa5, 0x5a, 0x5a, 0xa5}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	le           = binary.LittleEndian
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A Damage is an error that says where a file is not what was written. A node
// that meets it must not start: what it promised may be gone.
type Damage struct {
	File   string
	Offset int64 // missing: the file is not there
	Reason string
}

// missing is the Offset of a Damage whose file is not there.
const missing = -1

// Error names file and offset.
func (d *Damage) Error() string {
	if d.Offset == missing {
		return fmt.Sprintf("replica: %s is missing: %s", d.File, d.Reason)
	}
	return fmt.Sprintf("replica: %s is damaged at offset %d: %s", d.File, d.Offset, d.Reason)
}

// A segmentHeader is the first headerSize bytes of a segment.
type segmentHeader struct {
	node    consensus.ID
	cluster string
	number  uint64 // of the segment
	first   uint64 // sequence number of its first batch
	size    int64  // of the file, bytes
	restart bool   // nothing before this segment counts
	mark    uint64 // restart: the index of the snapshot that stands for what was before
	whole   uint32 // restart: batches that were durable before the segment got its name
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, segmentMagic[:]...)
	b = le.AppendUint16(b, formatVersion)
	b = le.AppendUint16(b, uint16(h.node))
	restart := uint32(0)
	if h.restart {
		restart = 1
	}
	b = le.AppendUint32(b, restart)
	b = le.AppendUint64(b, h.number)
	b = le.AppendUint64(b, h.first)
	b = le.AppendUint64(b, h.mark)
	b = le.AppendUint32(b, h.whole)
	b = le.AppendUint64(b, uint64(h.size))
	b = append(b, byte(len(h.cluster)))
	b = append(b, h.cluster...)
	b = b[:headerSize]
	le.PutUint32(b[headerSize-4:], checksum(b[:headerSize-4]))
	return b
}

// seedOf is what the checksums of batches begin with in the segment with that
// encoded header.
func seedOf(head []byte) uint32 { return checksum(head) }

// decodeHeader reads a header back; the error is plain words.
func decodeHeader(b []byte) (segmentHeader, error) {
	if len(b) < headerSize || [8]byte(b[:8]) != segmentMagic {
		return segmentHeader{}, errors.New("this is no segment of a journal")
	}
	if v := le.Uint16(b[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("format version %d; this program reads version %d", v, formatVersion)
	}
	if checksum(b[:headerSize-4]) != le.Uint32(b[headerSize-4:]) {
		return segmentHeader{}, errors.New("the header's checksum is wrong")
	}
	return segmentHeader{
		node:    consensus.ID(le.Uint16(b[10:])),
		restart: le.Uint32(b[12:]) == 1,
		number:  le.Uint64(b[16:]),
		first:   le.Uint64(b[24:]),
		mark:    le.Uint64(b[32:]),
		whole:   le.Uint32(b[40:]),
		size:    int64(le.Uint64(b[44:])),
		cluster: string(b[53 : 53+int(b[52])]),
	}, nil
}

// A batchBuilder gathers records into the bytes of one batch. The buffer is
// used again for the next one.
type batchBuilder struct {
	b     []byte
	count uint32
}

// add appends one record, as encode grows the buffer by it.
func (w *batchBuilder) add(encode func(b []byte) []byte) {
	if w.count == 0 {
		w.b = append(w.b[:0], make([]byte, batchHeader)...)
	}
	at := len(w.b)
	w.b = encode(append(w.b, make([]byte, recordHeader)...))
	body := w.b[at+recordHeader:]
	le.PutUint32(w.b[at:], uint32(len(body)))
	le.PutUint32(w.b[at+4:], checksum(body))
	w.count++
}

// seal completes the batch and starts the next; the result is valid until add.
func (w *batchBuilder) seal(seed uint32, sequence uint64) []byte {
	if w.count == 0 {
		w.b = append(w.b[:0], make([]byte, batchHeader)...)
	}
	b := w.b
	copy(b, batchMagic[:])
	le.PutUint32(b[4:], uint32(len(b)-batchHeader))
	le.PutUint64(b[8:], sequence)
	le.PutUint32(b[16:], w.count)
	le.PutUint32(b[20:], checksum(b[batchHeader:]))
	le.PutUint32(b[24:], crc32.Update(seed, castagnoli, b[:24]))
	copy(b[28:], guard[:])
	w.b, w.count = append(b, guard[:]...), 0
	return w.b
}

// A batchHead is the decoded header of a batch.
type batchHead struct {
	length   int64 // of the body
	sequence uint64
	count    uint32
	sum      uint32
}

// decodeHead reads the header of a batch at the start of b; false if there is none.
func decodeHead(b []byte, seed uint32) (batchHead, bool) {
	if len(b) < batchHeader || [4]byte(b[:4]) != batchMagic || [4]byte(b[28:32]) != guard ||
		crc32.Update(seed, castagnoli, b[:24]) != le.Uint32(b[24:]) {
		return batchHead{}, false
	}
	return batchHead{
		length:   int64(le.Uint32(b[4:])),
		sequence: le.Uint64(b[8:]),
		count:    le.Uint32(b[16:]),
		sum:      le.Uint32(b[20:]),
	}, true
}

// size is the whole batch, in bytes.
func (h batchHead) size() int64 { return batchHeader + h.length + guardSize }

// decodeBatch reads the batch at the start of b. The records alias b.
func decodeBatch(b []byte, seed uint32) (h batchHead, records [][]byte, ok bool) {
	h, ok = decodeHead(b, seed)
	if !ok || h.size() > int64(len(b)) {
		return h, nil, false
	}
	body := b[batchHeader : batchHeader+h.length]
	if [guardSize]byte(b[batchHeader+h.length:]) != guard || checksum(body) != h.sum {
		return h, nil, false
	}
	for len(body) >= recordHeader {
		n := int64(le.Uint32(body))
		if n > int64(len(body)-recordHeader) {
			return h, nil, false
		}
		record := body[recordHeader : recordHeader+n]
		if checksum(record) != le.Uint32(body[4:]) {
			return h, nil, false
		}
		records = append(records, record)
		body = body[recordHeader+n:]
	}
	return h, records, len(body) == 0 && len(records) == int(h.count)
}

// laterBatch finds a whole batch behind the start of b, as an offset; -1 if there is none.
func laterBatch(b []byte, seed uint32, sequence uint64) int64 {
	for at := 1; at < len(b); at++ {
		next := bytes.Index(b[at:], batchMagic[:])
		if next < 0 {
			return -1
		}
		at += next
		if h, _, ok := decodeBatch(b[at:], seed); ok && h.sequence >= sequence {
			return int64(at)
		}
	}
	return -1
}

// allZero tells whether b holds nothing but zeros.
func allZero(b []byte) bool {
	for len(b) >= len(zeroBlock) {
		if !bytes.Equal(b[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}

var zeroBlock [sectorSize]byte

// unwritten tells whether the bytes [from, to) of a segment show that they were
// not written to the end: they end in a zero, where a guard belongs, or one of
// the sectors that they touch holds nothing of them. Both are what the zeros of
// a preallocated file look like; a flipped bit does not.
func unwritten(b []byte, from, to int64) bool {
	if b[to-1] == 0 {
		return true
	}
	for at := from; at < to; {
		end := min(at-at%sectorSize+sectorSize, to)
		if allZero(b[at:end]) {
			return true
		}
		at = end
	}
	return false
}
