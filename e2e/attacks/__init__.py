"""What somebody does who wants to get in or to take a server down, by name, and what that gives them."""
