package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Tags of LDAP messages (RFC 4511).
const (
	tagInteger    = 0x02
	tagOctets     = 0x04
	tagEnumerated = 0x0a
	tagSequence   = 0x30
	tagSet        = 0x31
	tagSimple     = 0x80 // the password of a simple bind
	tagBind       = 0x60
	tagModify     = 0x66
	tagDelete     = 0x4a
)

const (
	ldapVersion = 3
	opAdd       = 0
	opReplace   = 2
	ldapTimeout = 10 * time.Second
	maxMessage  = 1 << 20
)

// modifier changes entries over one open connection, as ldapmodify does with many
// changes on its standard input. It is its own few lines of LDAP, so that nothing
// stands between the clock and the socket.
type modifier struct {
	conn net.Conn
	in   *bufio.Reader
	id   byte
}

func dialModifier(ctx context.Context, url, dn, password string) (*modifier, error) {
	dialer := net.Dialer{Timeout: ldapTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(url, "ldap://"))
	if err != nil {
		return nil, fmt.Errorf("connect to the directory: %w", err)
	}
	m := newModifier(conn)
	bind := ber(tagBind, ber(tagInteger, []byte{ldapVersion}), ber(tagOctets, []byte(dn)), ber(tagSimple, []byte(password)))
	if err := m.exchange(bind); err != nil {
		return nil, errors.Join(fmt.Errorf("bind as %s: %w", dn, err), conn.Close())
	}
	return m, nil
}

func newModifier(conn net.Conn) *modifier { return &modifier{conn: conn, in: bufio.NewReader(conn)} }

func (m *modifier) close() error { return m.conn.Close() }

// replace gives an attribute one value.
func (m *modifier) replace(dn, attribute, value string) error {
	return m.change(dn, opReplace, attribute, value)
}

// remove deletes an entry and waits for the server's answer.
func (m *modifier) remove(dn string) error {
	if err := m.exchange(ber(tagDelete, []byte(dn))); err != nil {
		return fmt.Errorf("delete %s: %w", dn, err)
	}
	return nil
}

// change changes an attribute by one value and waits for the server's answer.
func (m *modifier) change(dn string, op byte, attribute, value string) error {
	change := ber(tagSequence, ber(tagEnumerated, []byte{op}),
		ber(tagSequence, ber(tagOctets, []byte(attribute)), ber(tagSet, ber(tagOctets, []byte(value)))))
	if err := m.exchange(ber(tagModify, ber(tagOctets, []byte(dn)), ber(tagSequence, change))); err != nil {
		return fmt.Errorf("modify %s: %w", dn, err)
	}
	return nil
}

// exchange sends one operation and reads its result.
func (m *modifier) exchange(operation []byte) error {
	m.id = m.id%100 + 1
	if err := m.conn.SetDeadline(time.Now().Add(ldapTimeout)); err != nil {
		return fmt.Errorf("set the time limit: %w", err)
	}
	if _, err := m.conn.Write(ber(tagSequence, ber(tagInteger, []byte{m.id}), operation)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	message, err := readElement(m.in)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	in := bytes.NewReader(message)
	id, err := readElement(in)
	if err != nil || !bytes.Equal(id, []byte{m.id}) {
		return fmt.Errorf("the answer is not to message %d: %w", m.id, errors.Join(err, errAnswer))
	}
	result, err := readElement(in)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	code, err := readElement(bytes.NewReader(result))
	if err != nil || !bytes.Equal(code, []byte{0}) {
		return fmt.Errorf("result code %x: %w", code, errors.Join(err, errAnswer))
	}
	return nil
}

var errAnswer = errors.New("unexpected answer")

// ber is one element of the basic encoding rules.
func ber(tag byte, content ...[]byte) []byte {
	all := bytes.Join(content, nil)
	head := []byte{tag}
	switch n := len(all); {
	case n < 0x80:
		head = append(head, byte(n))
	default:
		head = append(head, 0x82, byte(n>>8), byte(n)) //nolint:gosec // messages of a few hundred bytes
	}
	return append(head, all...)
}

// readElement reads one element and returns its content.
func readElement(in io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	length := int(head[1])
	if length >= 0x80 {
		long := make([]byte, length&0x7f)
		if _, err := io.ReadFull(in, long); err != nil {
			return nil, err
		}
		length = 0
		for _, digit := range long {
			if length = length<<8 | int(digit); length > maxMessage {
				return nil, errAnswer
			}
		}
	}
	content := make([]byte, length)
	_, err := io.ReadFull(in, content)
	return content, err
}
