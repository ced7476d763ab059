"""All that knows Label Studio: its interface, client, projects, and a server of one's own."""
