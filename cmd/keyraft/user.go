package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const usersPath = "/admin/v1/users"

// newUser builds "keyraft user": the users of a tenant's built-in store.
func newUser(c console, dial dialer) *cobra.Command {
	cmd := group("user", "Make and manage users", "  keyraft user list",
		newUserCreate(c, dial), newUserList(dial), newUserGet(dial), newUserUpdate(c, dial), newUserSetPassword(c, dial), newUserResetPassword(dial),
		newUserUnlock(dial), newUserEndLogins(c, dial), newUserDelete(c, dial))
	cmd.AddCommand(newUserParts(c, dial)...)
	addClientFlags(cmd)
	return cmd
}

// userFlags are the members of a user that have a flag. Others are set with --set or
// --file. No flag takes a password: arguments are seen by others of the machine.
type userFlags struct {
	file, email, name, givenName, familyName string
	roles, groups, set                       []string
	enabled, secondFactor, mustChange        bool
}

func (f *userFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "file", "", "JSON file with the user's members (- for standard input); flags win over it")
	fl.StringVar(&f.email, "email", "", "mail address (email)")
	fl.StringVar(&f.name, "name", "", "name for people (name)")
	fl.StringVar(&f.givenName, "given-name", "", "given name (given_name)")
	fl.StringVar(&f.familyName, "family-name", "", "family name (family_name)")
	fl.StringSliceVar(&f.roles, "role", nil, "roles (roles)")
	fl.StringSliceVar(&f.groups, "group", nil, "groups (groups)")
	fl.StringArrayVar(&f.set, "set", nil, "any other member, as member=JSON")
	fl.BoolVar(&f.enabled, "enabled", true, "whether the user may sign in")
	fl.BoolVar(&f.secondFactor, "second-factor", false, "whether a password alone is not enough (second_factor)")
	fl.BoolVar(&f.mustChange, "must-change-password", false, "whether who signs in with the password has to set another one first (must_change_password)")
}

// members makes the JSON object of the file and of those flags that were given.
func (f *userFlags) members(cmd *cobra.Command, c console) (map[string]any, error) {
	shared := clientFlags{file: f.file, set: f.set}
	m := map[string]any{}
	if f.file != "" {
		text, err := shared.read(c, f.file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &m); err != nil || m == nil {
			return nil, usagef("%s is not a JSON object; write {\"email\": \"alice@example.com\"}", f.file)
		}
	}
	for _, t := range []struct {
		flag, member string
		value        any
	}{
		{"email", "email", f.email}, {"name", "name", f.name}, {"given-name", "given_name", f.givenName}, {"family-name", "family_name", f.familyName},
		{"role", "roles", f.roles}, {"group", "groups", f.groups}, {"enabled", "enabled", f.enabled}, {"second-factor", "second_factor", f.secondFactor},
		{"must-change-password", "must_change_password", f.mustChange},
	} {
		if cmd.Flags().Changed(t.flag) {
			m[t.member] = t.value
		}
	}
	for _, pair := range f.set {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || name == "":
			return nil, usagef("--set %q is not member=JSON; write locale=de", pair)
		case name == "password":
			return nil, usagef("a password is no argument: others of this machine see it; use --password-file, or --password-file - for standard input")
		case json.Valid([]byte(value)):
			m[name] = json.RawMessage(value)
		default:
			m[name] = value // a bare word needs no quotes
		}
	}
	return m, nil
}

// passwordFrom reads a password from a file, from standard input for "-", or, without
// either, from the terminal, twice. One newline at the end is not part of it.
func passwordFrom(c console, path string) (string, error) {
	const most = 4 << 10
	var text []byte
	var err error
	switch {
	case path == "" && c.Ask:
		return askPassword(c)
	case path == "":
		return "", usagef("the password is missing; use --password-file FILE, or - to read it from standard input")
	case path == "-":
		text, err = io.ReadAll(io.LimitReader(c.In, most+1))
		if err == nil && len(text) > most {
			err = usagef("standard input holds more than %s, which is no password", humanBytes(most))
		}
	default:
		text, err = readLimited(path, most)
	}
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if password == "" {
		return "", usagef("the password is empty")
	}
	return password, nil
}

// askPassword reads a password at the terminal without showing it.
func askPassword(c console) (string, error) {
	in, ok := c.In.(*os.File)
	if !ok {
		return "", usagef("the password is missing; use --password-file FILE, or - to read it from standard input")
	}
	var typed [2]string
	for i, prompt := range [...]string{"New password: ", "Once more: "} {
		if _, err := fmt.Fprint(c.Err, prompt); err != nil {
			return "", fmt.Errorf("ask for the password: %w", err)
		}
		text, err := term.ReadPassword(int(in.Fd()))
		_, _ = fmt.Fprintln(c.Err) // the one that was not shown
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", usagef("the two passwords differ; nothing was changed")
	}
	if typed[0] == "" {
		return "", usagef("the password is empty")
	}
	return typed[0], nil
}

func newUserCreate(c console, dial dialer) *cobra.Command {
	var f userFlags
	var file string
	var none bool
	cmd := &cobra.Command{
		Use:   "create USERNAME",
		Short: "Make a user",
		Long: `Make a user. The password is asked for at a terminal; a script gives it in a file
(mode 0600) or on standard input.`,
		Example: "  keyraft user create alice --email alice@example.com --role staff\n  keyraft user create alice --password-file alice.password\n" +
			"  keyraft user create alice --no-password",
		Args: named("USERNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file == "-" && file == "-" {
				return usagef("--file and --password-file can't both read standard input")
			}
			members, err := f.members(cmd, c)
			if err != nil {
				return err
			}
			members["username"] = args[0]
			if _, given := members["password"]; !none && (!given || file != "") {
				if members["password"], err = passwordFrom(c, file); err != nil {
					return err
				}
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), usersPath, members)
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password (- for standard input)")
	cmd.Flags().BoolVar(&none, "no-password", false, "make a user who can't sign in with a password")
	cmd.MarkFlagsMutuallyExclusive("password-file", "no-password")
	return cmd
}

func newUserList(dial dialer) *cobra.Command {
	return newList(dial, "user", usersPath, []column{
		{"ID", "id", nil}, {"USERNAME", "username", nil}, {"EMAIL", "email", nil}, {"ROLES", "roles", nil}, {"ENABLED", "enabled", nil},
	})
}

// userPath is the path of a user, who may be named by id or as @NAME.
func userPath(cmd *cobra.Command, api *api, who string) (string, error) {
	name, named := strings.CutPrefix(who, "@")
	if !named {
		return usersPath + "/" + url.PathEscape(who), nil
	}
	answer, err := api.get(cmd.Context(), usersPath+"?username="+url.QueryEscape(name))
	if err != nil {
		return "", err
	}
	var found struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return "", fmt.Errorf("the list of users: %w", err)
	}
	if len(found.Items) != 1 {
		return "", fmt.Errorf("there is no user of the name %q; 'keyraft user list' shows who there is", oneLine(name))
	}
	return usersPath + "/" + url.PathEscape(found.Items[0].ID), nil
}

func newUserGet(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "get ID|@NAME",
		Short:   "Show one user",
		Example: "  keyraft user get @alice",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			path, err := userPath(cmd, api, args[0])
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), path)
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}
