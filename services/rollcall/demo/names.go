package main

import "strings"

// name is how a person is called, and the account.
type name struct{ given, family, uid string }

// invented are people whose names are hard on software; the first of them play in
// the story.
var invented = []name{ //nolint:gochecknoglobals // a table
	{"Anna", "Bär", "anna.baer"},
	{"Tomáš", "Novák", "tomas.novak"},
	{"Grace", "O'Brien", "grace.obrien"},
	{"Paul", "Meyer", "paul.meyer"},
	{"Inês", "García", "ines.garcia"},
	{"Lena", "Vogel", "lena.vogel"},
	{"Robert", "O'Neil", "bob.oneil"},
	{"Olena", "Коваленко", "olena.kovalenko"},
	{"Søren", "Åkesson", "soeren.aakesson"},
	{"恵", "田中", "megumi.tanaka"},
	{"Γιώργος", "Παπαδόπουλος", "giorgos.papadopoulos"},
	{"محمد", "الحسن", "mohammed.alhassan"},
	{"Hương", "Nguyễn Thị", "huong.nguyen"},
	{"Юрий", "Гагарин-Смирнов", "yuri.gagarin"},
	{"민준", "김", "minjun.kim"},
	{"Jean-François", "de l'Épine", "jf.delepine"},
	{"José María", "Muñoz y Ibáñez", "jose.munoz"},
	{"Þórunn", "Ægisdóttir", "thorunn.aegisdottir"},
	{"X Æ", "Ω", "x.omega"},
	{"Zoë", "van der Weiß", "zoe.weiss"},
}

// cn is how a person is shown; one of them is shown in a way that must be escaped
// in distinguished names.
func (n name) cn() string {
	if n.uid == "bob.oneil" {
		return `O'Neil, "Bob"`
	}
	return n.given + " " + n.family
}

func givenNames() []string {
	return strings.Fields(`Amélie Bruno Chloé Dörte Emil Françoise Günther Håkon Ingrid Jürgen Katarína Łukasz
		Márta Niklas Óscar Petra Quentin Renée Şebnem Tuğçe Ursula Valérie Wojciech Yasmin Zdeněk Aoife Björn Carla
		David Elif Frida Giulia Hannah Igor Julia Kasper Leonie Matteo Nora Omar`)
}

func familyNames() []string {
	return strings.Fields(`Ångström Bäcker Čapek D'Angelo Ebner Fischer Gómez Hübner Ivanova Jørgensen Kowalski
		Lefèvre Müller Nagy O'Connor Pérez Quist Rossi Schäfer Török Urban Vogt Weiß Xavier Yılmaz Žižek Almeida
		Berg Costa Dupont Eriksson Frank Groß Hansen Jansen Keller Lindqvist Martin Nowak Olsen`)
}

// account is a name in the letters that accounts are made of.
func account(given, family string) string {
	plain := strings.NewReplacer(
		"ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "å", "aa", "ø", "oe", "æ", "ae", "ł", "l", "ı", "i", "'", "",
		"á", "a", "é", "e", "è", "e", "ê", "e", "í", "i", "ó", "o", "ú", "u", "ç", "c", "ş", "s", "ğ", "g",
		"č", "c", "ě", "e", "ž", "z", "ñ", "n", " ", "",
	)
	return plain.Replace(strings.ToLower(given) + "." + strings.ToLower(family))
}
