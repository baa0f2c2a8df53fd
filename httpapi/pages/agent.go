package pages

import "strings"

// agentName is what people call their browser: its name and that of its system, as far as
// the User-Agent header tells them; any other header stands as it came. It is for people
// to know a session by, and decides nothing.
func agentName(agent string) string {
	if !strings.HasPrefix(agent, "Mozilla/5.0 (") {
		return agent
	}
	// The first that is found counts, for most browsers name their forebears too.
	browser := firstIn(agent, [][2]string{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
	})
	system := firstIn(agent, [][2]string{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
	})
	switch {
	case browser == "":
		return agent
	case system == "":
		return browser
	}
	return browser + ", " + system
}

// firstIn is the name of the first mark that a text has; "" for none.
func firstIn(text string, marks [][2]string) string {
	for _, m := range marks {
		if strings.Contains(text, m[0]) {
			return m[1]
		}
	}
	return ""
}
