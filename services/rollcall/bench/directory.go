package main

import (
	"fmt"
	"strings"
)

const (
	suffix    = "dc=example,dc=com"
	groupsOf  = 3 // of the small groups, for each user
	bigShare  = 5 // one user in so many is in the big group
	minGroups = groupsOf + 1
)

// shape says how many entries a directory has.
type shape struct {
	users, groups int
	big           bool // group 0 holds a fifth of the users
}

// groupsFor are the groups of user i, all different.
func (s shape) groupsFor(i int) []int {
	first := 0
	if s.big {
		first = 1
	}
	small := s.groups - first
	step := 7
	if small%step == 0 {
		step = 11 // every group gets somebody
	}
	groups := make([]int, 0, groupsOf+1)
	for k := range groupsOf {
		groups = append(groups, first+(i*step+k*(small/groupsOf))%small)
	}
	if s.big && i%bigShare == 0 {
		groups = append(groups, 0)
	}
	return groups
}

// memberships is how many there are in all.
func (s shape) memberships() int {
	n := groupsOf * s.users
	if s.big {
		n += (s.users + bigShare - 1) / bigShare
	}
	return n
}

func (s shape) String() string {
	return fmt.Sprintf("%d users, %d groups, %d memberships", s.users, s.groups, s.memberships())
}

func userDN(i int) string { return fmt.Sprintf("uid=u%06d,ou=people,%s", i, suffix) }

// ldif is the directory, to be added below the base tree of ldaptest.
func (s shape) ldif() string {
	var b strings.Builder
	members := make([][]int, s.groups)
	for i := range s.users {
		fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%06d\ncn: User %d\nsn: Nr%d\ngivenName: User\n"+
			"mail: u%06d@example.com\nemployeeNumber: %d\ntelephoneNumber: +1 555 %07d\ntitle: engineer\n\n", userDN(i), i, i, i, i, i, i)
		for _, g := range s.groupsFor(i) {
			members[g] = append(members[g], i)
		}
	}
	for g, all := range members {
		fmt.Fprintf(&b, "dn: cn=g%04d,ou=groups,%s\nobjectClass: groupOfNames\ncn: g%04d\n", g, suffix, g)
		for _, i := range all {
			b.WriteString("member: " + userDN(i) + "\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
