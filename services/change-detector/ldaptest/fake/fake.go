// Package fake is an LDAP server that answers as a test says: for what real servers
// do in places where no test can run them. It understands binds and searches, and
// has no data of its own.
package fake

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// Scopes of a search.
const (
	ScopeBase = ldap.ScopeBaseObject
	ScopeOne  = ldap.ScopeSingleLevel
	ScopeTree = ldap.ScopeWholeSubtree
)

// Search is a search request.
type Search struct {
	Conn       int // number of the connection, from 1
	Base       string
	Scope      int
	SizeLimit  int
	Attributes []string // lower-case
	Controls   []ldap.Control

	filter *ber.Packet
}

// Answer is what the server sends: its messages in order, then the result, or the end
// of the connection in its place.
type Answer struct {
	Messages []Message
	Code     uint16
	Controls []ldap.Control // of the result
	Cut      bool
}

// Message is an entry or, where URL is set, a search reference.
type Message struct {
	DN         string
	Attributes []Attribute
	URL        string
}

// Attribute is one attribute of an entry, under the name that is sent.
type Attribute struct {
	Name   string
	Values []string
}

// Server runs for the length of a test.
type Server struct {
	URL string

	tb       testing.TB
	answer   func(Search) Answer
	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

// Start runs a server that asks answer for every search. It may be called for
// several connections at once.
func Start(tb testing.TB, answer func(Search) Answer) *Server {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("start the server: %v", err)
	}
	s := &Server{URL: "ldap://" + l.Addr().String(), tb: tb, answer: answer, listener: l}
	s.running.Go(s.accept)
	tb.Cleanup(s.close)
	return s
}

func (s *Server) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		n := len(s.conns)
		s.mu.Unlock()
		s.running.Go(func() {
			defer func() { _ = c.Close() }()
			if err := s.serve(c, n); err != nil && !errors.Is(err, errCut) {
				s.tb.Errorf("the server: %v", err)
			}
		})
	}
}

// errCut ends a connection because the answer says so.
var errCut = errors.New("cut")

// serve answers one connection's requests, one after the other. Its error is a
// request that it does not understand.
func (s *Server) serve(c net.Conn, number int) error {
	for {
		request, err := ber.ReadPacket(c)
		if err != nil {
			return nil //nolint:nilerr // the client is gone
		}
		if len(request.Children) < 2 {
			return errors.New("a message without an operation")
		}
		var responses []*ber.Packet
		switch op := request.Children[1]; op.Tag {
		case ldap.ApplicationBindRequest:
			responses = []*ber.Packet{result(ldap.ApplicationBindResponse, ldap.LDAPResultSuccess)}
		case ldap.ApplicationExtendedRequest:
			responses = []*ber.Packet{result(ldap.ApplicationExtendedResponse, ldap.LDAPResultProtocolError)}
		case ldap.ApplicationUnbindRequest:
			return nil
		case ldap.ApplicationSearchRequest:
			search, err := parse(request, number)
			if err != nil {
				return err
			}
			if err := s.reply(c, request.Children[0], s.answer(search)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("operation %d is not understood", op.Tag)
		}
		for _, r := range responses {
			if send(c, request.Children[0], r, nil) != nil {
				return errCut
			}
		}
	}
}

// reply sends an answer. That the client does not wait for it is no fault.
func (s *Server) reply(c net.Conn, id *ber.Packet, a Answer) error {
	for _, m := range a.Messages {
		if send(c, id, m.encode(), nil) != nil {
			return errCut
		}
	}
	if a.Cut || send(c, id, result(ldap.ApplicationSearchResultDone, a.Code), a.Controls) != nil {
		return errCut
	}
	return nil
}

// parse reads a search request.
func parse(request *ber.Packet, number int) (Search, error) {
	op := request.Children[1]
	if len(op.Children) != 8 {
		return Search{}, errors.New("a search of another form")
	}
	s := Search{Conn: number, filter: op.Children[6]}
	s.Base, _ = op.Children[0].Value.(string)
	s.Scope = int(integer(op.Children[1]))
	s.SizeLimit = int(integer(op.Children[3]))
	for _, a := range op.Children[7].Children {
		name, _ := a.Value.(string)
		s.Attributes = append(s.Attributes, strings.ToLower(name))
	}
	if len(request.Children) > 2 {
		for _, c := range request.Children[2].Children {
			control, err := ldap.DecodeControl(c)
			if err != nil {
				return s, fmt.Errorf("read a control: %w", err)
			}
			s.Controls = append(s.Controls, control)
		}
	}
	return s, nil
}

func integer(p *ber.Packet) int64 {
	n, _ := p.Value.(int64)
	return n
}

// Filter is the filter as text.
func (s Search) Filter() string {
	text, err := ldap.DecompileFilter(s.filter)
	if err != nil {
		return err.Error()
	}
	return text
}

// Matches reports whether an entry lies where the search looks and matches its
// filter: of presence, equality, order of numbers, and, or, not.
func (s Search) Matches(m Message) bool {
	dn, base := strings.ToLower(m.DN), strings.ToLower(s.Base)
	below := dn == base || strings.HasSuffix(dn, ","+base)
	switch s.Scope {
	case ScopeBase:
		below = dn == base
	case ScopeOne:
		below = below && strings.Count(dn, ",") == strings.Count(base, ",")+1
	}
	return below && matches(s.filter, m)
}

func matches(f *ber.Packet, m Message) bool {
	all := func(want bool) bool {
		return !slices.ContainsFunc(f.Children, func(c *ber.Packet) bool { return matches(c, m) != want })
	}
	switch int(f.Tag) { //nolint:gosec // a tag is small
	case ldap.FilterAnd:
		return all(true)
	case ldap.FilterOr:
		return !all(false)
	case ldap.FilterNot:
		return !matches(f.Children[0], m)
	case ldap.FilterPresent:
		return strings.EqualFold(f.Data.String(), "objectClass") || len(m.Values(f.Data.String())) > 0
	}
	name, want := f.Children[0].Data.String(), f.Children[1].Data.String()
	return slices.ContainsFunc(m.Values(name), func(v string) bool {
		if f.Tag == ldap.FilterGreaterOrEqual {
			return len(v) > len(want) || len(v) == len(want) && v >= want
		}
		return strings.EqualFold(v, want)
	})
}

// Values are those of an attribute.
func (m Message) Values(name string) []string {
	for _, a := range m.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Values
		}
	}
	return nil
}

func (m Message) encode() *ber.Packet {
	if m.URL != "" {
		p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultReference, nil, "reference")
		p.AppendChild(octets(m.URL))
		return p
	}
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "entry")
	p.AppendChild(octets(m.DN))
	list := ber.NewSequence("attributes")
	for _, a := range m.Attributes {
		one := ber.NewSequence("attribute")
		one.AppendChild(octets(a.Name))
		values := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "values")
		for _, v := range a.Values {
			values.AppendChild(octets(v))
		}
		one.AppendChild(values)
		list.AppendChild(one)
	}
	p.AppendChild(list)
	return p
}

func octets(text string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, text, "")
}

// result is the end of an operation.
func result(tag ber.Tag, code uint16) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "result")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(code), "code"))
	p.AppendChild(octets(""))
	p.AppendChild(octets(""))
	return p
}

func send(c net.Conn, id, op *ber.Packet, controls []ldap.Control) error {
	m := ber.NewSequence("message")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, integer(id), "id"))
	m.AppendChild(op)
	if len(controls) > 0 {
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "controls")
		for _, one := range controls {
			list.AppendChild(one.Encode())
		}
		m.AppendChild(list)
	}
	_, err := c.Write(m.Bytes())
	return err //nolint:wrapcheck // the caller only asks whether
}
