// This file is the checks of what lies between records: frames, headers, and calls
// as later versions of a host may make them.

package conformance

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/edged/edged/engine/record"
)

// eachFrame calls change for the frames of a call and joins what it returns; the
// lengths in headers are set anew.
func eachFrame(call []byte, header int, change func(frame []byte) []byte) []byte {
	out := slices.Clone(call[:header])
	for rest := call[header:]; len(rest) > 0; {
		size := binary.LittleEndian.Uint32(rest)
		frame := change(slices.Clone(rest[:size]))
		binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
		out = append(out, frame...)
		rest = rest[size:]
	}
	if header == callHeader {
		binary.LittleEndian.PutUint32(out[12:], uint32(len(out)))
	}
	return out
}

const callHeader = 32

// longer appends bytes of a later version to a frame.
func longer(frame []byte) []byte {
	return append(frame, "\xff\xfe\x01\x00\xa5\xa5\xa5\xa5}{\"later\":"...)[:len(frame)+16]
}

func (s *suite) unknownBytes() (*finding, error) {
	return s.sameWhen("with 16 bytes more at the end of every frame", func(call []byte) []byte {
		return eachFrame(call, callHeader, longer)
	})
}

func (s *suite) reserved() (*finding, error) {
	return s.sameWhen("with reserved fields that are not zero", func(call []byte) []byte {
		call = slices.Clone(call)
		binary.LittleEndian.PutUint64(call[24:], 0xa5a5a5a5a5a5a5a5)
		return eachFrame(call, callHeader, func(frame []byte) []byte {
			binary.LittleEndian.PutUint16(frame[14:], 0xa5a5)
			binary.LittleEndian.PutUint64(frame[56:], 0xa5a5a5a5a5a5a5a5)
			return frame
		})
	})
}

// sameWhen compares calls as they are with calls that are edited.
func (s *suite) sameWhen(how string, edit func([]byte) []byte) (*finding, error) {
	return s.rounds(func(in []record.Record) (string, error) {
		plain, err := s.once(in, nil)
		if err != nil || plain.fault != nil {
			return "", err // another check's
		}
		edited, err := s.once(in, edit)
		if err != nil {
			return "", err
		}
		if edited.fault != nil {
			return fmt.Sprintf("%s: %s", how, edited.fault), nil
		}
		if what := differ(plain.answers, edited.answers); what != "" {
			return how + " the answer is another: " + what, nil
		}
		return "", nil
	})
}

func (s *suite) noRecords() (*finding, error) {
	rep, err := s.once(nil, nil)
	if err == nil && rep.fault != nil {
		return warned("%s; this host sends no such call", rep.fault), nil
	}
	return nil, err
}
