//! The pages, and the fenced blocks in them.

use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the documentation.
pub struct Page {
    /// Its path in the repository.
    pub path: PathBuf,
    pub text: String,
}

/// What stands between two fences.
pub struct Block {
    /// The page and the line of the first fence, for whoever has to find it.
    pub place: String,
    pub info: String,
    pub text: String,
}

/// All pages.
pub fn pages() -> Vec<Page> {
    let named = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from);
    let docs = std::fs::read_dir(root().join("docs")).expect("there is documentation");
    let docs = docs.map(|entry| Path::new("docs").join(entry.expect("a file").file_name()));
    let markdown = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    named.into_iter().chain(markdown).map(Page::read).collect()
}

/// The blocks of all pages that have this info string.
pub fn blocks(info: &str) -> Vec<Block> {
    pages().iter().flat_map(Page::blocks).filter(|block| block.info == info).collect()
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self { path, text }
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut found = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else { continue };
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            found.push(Block { place: format!("{}:{}", self.path.display(), at + 1), info: info.into(), text });
        }
        found
    }

    /// The page without its blocks.
    pub fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }
}
