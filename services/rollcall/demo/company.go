package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

const (
	suffix     = "dc=example,dc=com"
	headcount  = 200
	officeSize = 150
)

// person is somebody in the directory.
type person struct {
	name
	department, title, number string
	left                      bool
}

func (p *person) mail() string { return p.uid + "@example.com" }

// dn is named by the account, but for one person.
func (p *person) dn() string {
	if p.uid == "bob.oneil" {
		return "cn=" + escape(p.cn()) + ",ou=people," + suffix
	}
	return "uid=" + p.uid + ",ou=people," + suffix
}

func (p *person) record() string {
	kind := "staff"
	if p.left {
		kind = "left"
	}
	return content(p.dn(), []attribute{
		{"objectClass", "inetOrgPerson"},
		{"uid", p.uid},
		{"cn", p.cn()},
		{"givenName", p.given},
		{"sn", p.family},
		{"mail", p.mail()},
		{"title", p.title},
		{"departmentNumber", p.department},
		{"employeeNumber", p.number},
		{"employeeType", kind},
	})
}

// group is a group in the directory.
type group struct {
	cn      string
	members []string // DNs
}

func (g *group) dn() string { return "cn=" + escape(g.cn) + ",ou=groups," + suffix }

func (g *group) record() string {
	attributes := []attribute{{"objectClass", "groupOfNames"}, {"cn", g.cn}}
	for _, dn := range g.members {
		attributes = append(attributes, attribute{"member", dn})
	}
	return content(g.dn(), attributes)
}

func (g *group) join(p *person) {
	if !slices.Contains(g.members, p.dn()) {
		g.members = append(g.members, p.dn())
	}
}

// company is everything in the directory before the morning.
type company struct {
	people []*person
	groups []*group
}

// departments are where people work, with their titles.
var departments = []struct { //nolint:gochecknoglobals // a table
	name, group string
	titles      []string
}{
	{"Backend", "Backend", []string{"Engineer", "Senior Engineer", "Staff Engineer", ""}},
	{"Platform", "Platform", []string{"Site Reliability Engineer", "Engineer", ""}},
	{"Product", "Product & Design", []string{"Product Manager", "Designer", "Researcher"}},
	{"Sales", "Sales", []string{"Account Executive", "Sales Engineer", ""}},
	{"Marketing", "Marketing", []string{"Content Lead", "Editor"}},
	{"Finance", "Finance", []string{"Accountant", "Controller"}},
	{"People", "People & Culture", []string{"Recruiter", "People Partner"}},
	{"Legal", "Legal", []string{"Counsel", ""}},
	{"Support", "Support", []string{"Support Agent", "Team Lead", ""}},
	{"IT", "IT", []string{"Administrator", "Service Desk"}},
}

const (
	office   = "Berlin Office"
	council  = `Comité d'entreprise, "Zürich"`
	aiders   = "First aiders"
	platform = "Platform"
	backend  = "Backend"
)

// newCompany makes 200 people and 15 groups, always the same ones.
func newCompany() *company {
	c := &company{}
	random := rand.New(rand.NewPCG(2026, 200)) //nolint:gosec // the same people every time
	for _, n := range newNames(random) {
		c.hire(n, random)
	}
	for _, d := range departments {
		g := c.found(d.group)
		for _, p := range c.people {
			if p.department == d.name {
				g.join(p)
			}
		}
	}
	for _, p := range c.people[:officeSize] {
		c.group(office).join(p)
	}
	for _, i := range random.Perm(headcount)[:9] {
		c.group(aiders).join(c.people[i])
		c.group(council).join(c.people[headcount-1-i])
	}
	c.group(council).join(c.person("bob.oneil"))
	c.group(aiders).join(c.person("megumi.tanaka"))
	c.group("Engineering").members = []string{c.group(backend).dn(), c.group(platform).dn(), c.person("soeren.aakesson").dn()}
	c.group("Go-to-market").members = []string{c.group("Sales").dn(), c.group("Marketing").dn()}
	return c
}

// newNames are the invented people and as many combinations as are needed.
func newNames(random *rand.Rand) []name {
	names := slices.Clone(invented)
	given, family := givenNames(), familyNames()
	taken := map[string]bool{}
	for _, n := range names {
		taken[n.uid] = true
	}
	for len(names) < headcount {
		n := name{given: given[random.IntN(len(given))], family: family[random.IntN(len(family))]}
		n.uid = account(n.given, n.family)
		if !taken[n.uid] {
			taken[n.uid] = true
			names = append(names, n)
		}
	}
	return names
}

// roles are the departments and titles that the story needs.
var roles = map[string][2]string{ //nolint:gochecknoglobals // a table
	"anna.baer":       {"Backend", "Engineer"},
	"tomas.novak":     {"Support", "Support Agent"},
	"grace.obrien":    {"Product", "Designer"},
	"paul.meyer":      {"Finance", "Controller"},
	"ines.garcia":     {"Marketing", "Editor"},
	"lena.vogel":      {"Legal", "Counsel"},
	"bob.oneil":       {"Finance", "Accountant"},
	"olena.kovalenko": {"IT", "Administrator"},
	"soeren.aakesson": {"Product", "Chief Technology Officer"},
	"megumi.tanaka":   {"Sales", "Account Executive"},
}

// hire adds a person; one in 25 has left already.
func (c *company) hire(n name, random *rand.Rand) {
	number := len(c.people)
	d := departments[random.IntN(len(departments))]
	p := &person{name: n, department: d.name, title: d.titles[random.IntN(len(d.titles))], number: "E" + strconv.Itoa(10_000+number)}
	if role, is := roles[n.uid]; is {
		p.department, p.title = role[0], role[1]
	}
	p.left = n.uid == "lena.vogel" || number >= len(invented) && number%25 == 0
	c.people = append(c.people, p)
}

func (c *company) found(cn string) *group {
	g := &group{cn: cn}
	c.groups = append(c.groups, g)
	return g
}

// group finds a group by its name, or founds it.
func (c *company) group(cn string) *group {
	for _, g := range c.groups {
		if g.cn == cn {
			return g
		}
	}
	return c.found(cn)
}

// person finds somebody by account.
func (c *company) person(uid string) *person {
	i := slices.IndexFunc(c.people, func(p *person) bool { return p.uid == uid })
	if i < 0 {
		panic("the story needs " + uid)
	}
	return c.people[i]
}

// ldif is everybody and everything, to be loaded.
func (c *company) ldif() string {
	var b strings.Builder
	for _, p := range c.people {
		b.WriteString(p.record())
	}
	for _, g := range c.groups {
		b.WriteString(g.record())
	}
	return b.String()
}
